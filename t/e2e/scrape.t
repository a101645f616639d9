#!/usr/bin/perl

# /metrics of 10 000 VMs: no big buffer, and nobody waits for it; clients that
# do not read, that leave, that come by HTTP/2.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $vms = 10000;
my $families = 18;

system("$Test::Hatch::build/unit/zone-poke", "--more=$vms", "$dir/run/zone",
       16384) == 0 or die;
start_nginx(workers => 1, http => <<'END');
    server {
        listen 127.0.0.1:8081 http2;
        location = /metrics { hatch_metrics; }
        location = /summary { hatch_metrics summary; }
    }
END

my $worker;
wait_until('a worker', sub { ($worker) = workers() });
sub rss { return slurp("/proc/$worker/status") =~ /^VmRSS:\s+(\d+)/m && $1 }

# once, for what is allocated only once
is(scalar(grep /^hatch_vm_/, keys %{ metrics() }), $vms * $families,
   'all series of all VMs');
my $before = rss();
cmp_ok($before, '>', 0, 'the worker is known');

# those who ask and do not read
my @clients;
for (1 .. 50) {
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:8080',
                                  Proto => 'tcp') or die $!;
    print $s "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    push @clients, $s;
}
for my $s (@clients) { sysread $s, my $head, 100 }
for (1 .. 100) {
    my $r = healthz();
    next if $r->{status} == 200 && $r->{json}{vm_count} == $vms;
    fail("healthz beside them: $r->{body}");
    last;
}
pass('healthz goes on');
my $more = rss() - $before;
cmp_ok($more, '<', 50 * 100, "50 of them take $more KiB, not 50 x 16 MB");

# one of them reads on, and gets all of it
my $text = '';
my $slow = shift @clients;
while (sysread $slow, my $part, 65536) {
    $text .= $part;
    last if length $text > 7 && substr($text, -7) eq "\r\n0\r\n\r\n";
}
$text =~ s/\r\n[0-9a-f]+\r\n//g;
is(scalar(() = $text =~ /^hatch_vm_wakes_total\{/mg), $vms, 'all VMs');

# the others leave in the middle of it
close $_ for @clients;
wait_until('their connections are closed', sub {
    my @open = grep { (readlink $_ // '') =~ /^socket/ }
               glob "/proc/$worker/fd/*";
    return @open < 20;
});
is(healthz()->{status}, 200, 'no harm is done');

# HTTP/2
my $h2 = qx(nghttp -n --stat http://127.0.0.1:8081/summary 2>&1);
like($h2, qr{200\s+\S+\s+/summary}, 'HTTP/2');
$h2 = qx(nghttp http://127.0.0.1:8081/metrics 2>/dev/null);
is(scalar(() = $h2 =~ /^hatch_vm_wakes_total\{/mg), $vms, 'all VMs');
is(scalar(() = $h2 =~ /^# TYPE /mg), scalar(() = $text =~ /^# TYPE /mg),
   'and families');

# a zone that is put in place of the one that is being read
my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:8080') or die $!;
print $s "GET /metrics HTTP/1.0\r\n\r\n";
sysread $s, my $first, 1000;
unlink "$dir/run/zone";
system("$Test::Hatch::build/unit/zone-poke", "$dir/run/zone", 16) == 0 or die;
wait_until('the new one is read', sub { healthz()->{json}{vm_count} == 0 });
local $/;
my $rest = <$s>;
is(scalar(() = $rest =~ /^hatch_vm_wakes_total\{/mg), $vms,
   'the answer goes on from the old one');
done();
