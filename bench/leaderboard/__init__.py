"""The leaderboard: rows from runs, submissions and the paper; ranks that share what noise cannot tell apart; checks of both."""
