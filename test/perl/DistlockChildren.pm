# Servers of other kinds that a test starts: they end with it, however it ends.

package DistlockChildren;

use strict;
use warnings;

use Exporter 'import';
use POSIX ();

our @EXPORT = qw(child_started child_ended);

# Of all that were started, by process id: by which process.
my %running;

sub child_started
{
	my ($pid) = @_;

	$running{$pid} = $$;
	return;
}

# It has been collected.
sub child_ended
{
	my ($pid) = @_;

	delete $running{$pid};
	return;
}

# A test that is ended from outside ends what it has started, too.
my $test = $$;

$SIG{$_} //= sub { $$ == $test ? exit 1 : POSIX::_exit(1) } foreach 'HUP', 'INT', 'TERM';

# Only those that were started by this very process, and by their number.
END
{
	my $status = $?;
	my @pids = grep { $running{$_} == $$ } keys %running;

	kill('KILL', @pids) if @pids;
	waitpid($_, 0) foreach @pids;
	$? = $status;
}

1;
