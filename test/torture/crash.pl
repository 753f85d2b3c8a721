# What a client knew as granted survives the crash of the server, and nothing is
# granted twice because of it.
#
# All processes of the server are killed at random moments while clients are at work,
# and it starts again; prepared transactions and leases are found as they were, and
# session locks stay reserved.  Commits are asynchronous, but those of grants and
# extensions are not.  What was acknowledged has to be among the changes that the
# decoding slot shows; whether the commit came through when the connection broke is
# seen there too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockTest;
use DistlockTorture;
use DistlockTrial;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $PAUSE = 1.2;          # seconds between crashes, at most

my $run = DistlockTorture->new('crash', seconds => 12, goals => { recoveries => 300 });
my $node = new_node('main', allows_streaming => 'logical', conf => <<"EOC");
$DistlockTrial::CONF
log_min_messages = fatal
restart_after_crash = off
synchronous_commit = off
EOC
my $trial = DistlockTrial->new($run, $node, clients => 8, sabotage => 5);

while ($run->go_on)
{
	$trial->round(
		crashed => 1,
		meanwhile => sub {
			my ($left) = @_;

			# The last moments are for finding it all in order.
			sleep($left < $PAUSE ? $left : rand $PAUSE);
			return if $left < $PAUSE;
			# Now and then there is little to redo.
			$node->safe_psql('postgres', 'CHECKPOINT') if rand() < 0.1;
			crash($node);
			start_again($node);
			$run->add(recoveries => 1);
		});
}
$trial->conclude;

cmp_ok($run->figure('recoveries'), '>', $run->seconds / 5, 'there were crashes');
cmp_ok($run->figure('lost'), '>', 0, 'clients lost their connections');
cmp_ok($trial->witness->count('undone'), '>', 0, 'some did not know');

$node->stop;
$run->finish;
