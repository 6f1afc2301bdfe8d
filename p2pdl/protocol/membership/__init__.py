"""Who is there: members found, watched and given up without anybody in the middle."""
