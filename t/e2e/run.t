#!/usr/bin/perl

# `make run` as a user sees it: the two URLs, Ctrl-C, again, and the ways in
# which it cannot start.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $run = "$top/util/run";

# What the machine has: to see that nothing is left behind.
sub traces {
    return join "\n", sort grep !/world|libvirt|^\/run\/(?:lock|mount|test)/,
           glob('/run/*'),
           (map "link $_", grep /hatch/, split ' ', qx(ls /sys/class/net)),
           (map "process $_", grep /qemu-system|dnsmasq|hatch-agent|nginx/,
            map { slurp("/proc/$_/cmdline") =~ tr/\0/ /r }
            grep !-e "/proc/$_/exe" || 1, map /(\d+)$/, glob '/proc/[0-9]*');
}

sub start {
    my ($log) = @_;
    return spawn($log, $run, $Test::Hatch::build);
}

my $clean = traces();
my $log = "$dir/logs/run.out";

for my $round (1, 2) {
    unlink $log;
    my $pid = start($log);
    wait_until('it runs', sub { slurp($log) =~ /Ctrl-C ends it/ }, 180)
        or diag(slurp($log));
    my $out = slurp($log);

    like($out, qr/starting libvirt/, 'libvirt was not running');
    like($out, qr{\$ curl http://demo\.hatch\.localhost:9090/.*?Hello from a}s,
         'the page');
    like($out, qr/^\{"status":"ok","vm_count":1,"route_count":1\}$/m,
         'the health');

    like(qx(curl -s http://demo.hatch.localhost:9090/),
         qr/Hello from a virtual machine/, 'curl sees the page, too');
    is(qx(curl -s http://localhost:8080/healthz),
       '{"status":"ok","vm_count":1,"route_count":1}', 'and the health');

    if ($round == 2) {
        my $second = start("$dir/logs/second.out");
        is(reap($second) >> 8, 1, 'a second one does not start');
        like(slurp("$dir/logs/second.out"),
             qr/^run: port 8080 is in use; stop what listens on it/m,
             'and says why');
    }

    kill 'INT', $pid;       # ignored in a background job: as a terminal does
    kill 'TERM', $pid;
    is(reap($pid, 60), 0, "Ctrl-C ends it ($round)");
    is(traces(), $clean, 'and everything is gone');
}

# libvirt that cannot start
{
    local $ENV{PATH} = "$dir/bin:$ENV{PATH}";
    mkdir "$dir/bin";
    write_file("$dir/bin/libvirtd", "#!/bin/sh\nexit 1\n");
    chmod 0755, "$dir/bin/libvirtd";
    my $pid = start("$dir/logs/nolibvirt.out");
    is(reap($pid, 60) >> 8, 1, 'no libvirt');
    like(slurp("$dir/logs/nolibvirt.out"),
         qr/^run: libvirt does not start/m, 'says so');
    is(traces(), $clean, 'and leaves nothing');
}

done();
