"""Commands for those who work on p2pdl, and the code behind them."""
