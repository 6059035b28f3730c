"""What attackers of the data listener cost everybody else."""
