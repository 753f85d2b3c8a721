# No lock is held twice, no fence goes back and no promise is broken, whatever
# clients do at the same time.
#
# Clients use a few keys that all of them want, and many others, in every way there
# is; their statements are cancelled and their sessions ended.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockTest;
use DistlockTorture;
use DistlockTrial;
use Test::More;

my $run = DistlockTorture->new('mix', seconds => 15, goals => { operations => 10_000_000 });
my $node = new_node('main', allows_streaming => 'logical', conf => $DistlockTrial::CONF);
my $trial = DistlockTrial->new($run, $node, clients => 12, sabotage => 10);

$trial->round while $run->go_on;
$trial->conclude;
cmp_ok($trial->errors->{$_} // 0, '>', 0, "there were errors $_")
  foreach qw(55P03 LK001 40001 57014 lost);

$node->stop;
$run->finish;
