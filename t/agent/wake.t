#!/usr/bin/perl

# What the agent answers on its wake socket, asked by the test in nginx' place.
# The guest is this process: libvirt's test driver runs none, so its address
# is put on the loopback interface and the test listens there.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my ($ask, $wait, $ready) = 1 .. 3;
my $port = 8000;
my $format = 'L S S Q L L S S L a24 Q';

start_agent();
my $vm = create_vm({ idle_timeout => undef });
my ($id, $ip) = @$vm{qw(id guest_ip)};
my $worker = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
my $request = 0;

sub incarnation { return zone()->{vms}[0]{incarnation} }

sub ask {
    syswrite $worker, pack $format, 0x32574148, $ask, 0, ++$request, 30_000, 0,
                           $port, 0, 0, $id, 0;
}

sub answer {
    my %m;
    my $text = '';
    while (length $text < 64) {
        sysread $worker, $text, 64 - length $text, length $text or return {};
    }
    @m{qw(magic type kind request timeout duration port failure reserved vm
          incarnation)} = unpack $format, $text;
    return \%m;
}

# The guest's service: listens from new to close.
sub service {
    return IO::Socket::INET->new(LocalAddr => $ip, LocalPort => $port,
                                 Listen => 8, ReuseAddr => 1) || die;
}

system('ip', 'address', 'add', "$ip/32", 'dev', 'lo') == 0 or die;

# --- READY says of which guest it is ---

my $first = incarnation();
cmp_ok($first, '>', 0, 'the zone has an incarnation');
my $service = service();
ask();
my $m = answer();
is($m->{type}, $ready, 'a guest that listens is ready');
is($m->{request}, $request, 'which answers the request');
is($m->{incarnation}, $first, 'READY has the incarnation of the zone');

for ('pause', 'resume') {
    is(api('POST', "/vms/$id/$_", {})->{status}, 200, $_);
}
ask();
is(answer()->{incarnation}, $first, 'one that was paused is the same guest');

for ('stop', 'start') {
    is(api('POST', "/vms/$id/$_", {})->{status}, 200, $_);
}
my $second = incarnation();
cmp_ok($second, '>', $first, 'after a start it is another one');
ask();
is(answer()->{incarnation}, $second, 'and READY says so');

# --- it began anew while it was probed ---

# Should the agent look while it is stopped, it says FAILED: once more then.
my $third;
for (1 .. 20) {
    $service->close;
    ask();
    is(answer()->{type}, $wait, 'a guest that does not listen: WAIT');
    for ('stop', 'start') {
        is(api('POST', "/vms/$id/$_", {})->{status}, 200, $_);
    }
    $third = incarnation();
    $service = service();
    $m = answer();
    last if $m->{type} == $ready;
}
cmp_ok($third, '>', $second, 'it was started again meanwhile');
is($m->{type}, $ready, 'it is ready');
is($m->{incarnation}, $third, 'READY is of the guest that answered');

# --- a VM without an address is not probed ---

$id = create_vm({ idle_timeout => undef,
                  enable_network => JSON::PP::false })->{id};
ask();
$m = answer();
is($m->{type}, $ready, 'no network: ready at once');
is($m->{incarnation}, 0, 'of no guest that is known');

done();
