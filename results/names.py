"""Names by which trials and their ledger know things of each other. Imports nothing, for every worker imports it."""

CHANNEL_USE = "channel_use.npy"  # file of a seed that saw every task: Trainer.channel_use
STOPPED = "stopped on request"  # the reason of a trial that somebody stopped
STOP_FILE = "stop"  # in a trial's folder: asks the trial to stop
NON_FINITE = "non-finite: "  # what the reason of a trial begins with that diverged
