"""The deployment files, judged by the real programs that read them where those run here, else by their checkers."""
