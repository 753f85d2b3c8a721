# Calls of the system's that fail in a process of a server, on demand.
#
#	my $faults = DistlockPreload->new;
#	my $node = $faults->around(sub { return new_node('main'); });
#	$faults->begin($pid, 'pipe2', 'EMFILE');
#	$faults->end('pipe2');
#
# What can fail is in test/faults/faults.c, which is compiled for it.

package DistlockPreload;

use strict;
use warnings;

use Cwd qw(abs_path);
use Errno;
use File::Basename;
use PostgreSQL::Test::Utils;

sub new
{
	my ($class) = @_;
	my $source = abs_path(dirname(__FILE__) . '/../faults/faults.c');
	my $dir = PostgreSQL::Test::Utils::tempdir;
	my $library = "$dir/preload.so";

	system('cc', '-O1', '-w', '-fPIC', '-shared', '-o', $library, $source, '-ldl') == 0
	  or die "could not compile $source";
	mkdir "$dir/faults" or die "could not make a directory: $!";
	return bless { library => $library, dir => "$dir/faults" }, $class;
}

# Whatever starts a server in there has the library in it.
sub around
{
	my ($self, $code) = @_;
	local $ENV{LD_PRELOAD} = $self->{library};
	local $ENV{DISTLOCK_FAULTS} = $self->{dir};

	return $code->();
}

sub begin
{
	my ($self, $pid, $function, $error) = @_;
	my $path = "$self->{dir}/$function";

	# As a whole
	append_to_file("$path.new", $pid . ' ' . (defined $error ? Errno->can($error)->() : 0));
	rename "$path.new", $path or die "could not rename: $!";
	return;
}

sub end
{
	my ($self, $function) = @_;

	unlink "$self->{dir}/$function" or die "there was no fault: $!";
	return;
}

1;
