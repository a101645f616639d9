package Test::Hatch::Host;

# A test's Debian host (t/lib/host): what a shell in it says.

use strict;
use warnings;

use Exporter qw(import);
use Test::Hatch;

our @EXPORT = qw(host);


# A shell's output in the host, both of them; its status is $?.
sub host {
    my ($script) = @_;
    open my $fh, '-|', "$Test::Hatch::top/t/lib/host", 'in', 'bash', '-c',
        "( $script ) 2>&1" or die $!;
    local $/;
    my $out = <$fh> // '';
    close $fh;
    return $out;
}


1;
