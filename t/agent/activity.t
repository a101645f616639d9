#!/usr/bin/perl

# A reload of nginx with another "vms=": zone.activity is another file then, in
# which the agent finds what the one before had.  The guest is this process:
# its address is put on the loopback interface.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

start_agent(env => { HATCH_ZONE_VMS => 32 });
my $vm = create_vm({ idle_timeout => undef });
my ($id, $ip) = @$vm{qw(id guest_ip)};
system('ip', 'address', 'add', "$ip/32", 'dev', 'lo') == 0 or die;

my $service = IO::Socket::INET->new(LocalAddr => $ip, LocalPort => 80,
                                    Listen => 64, ReuseAddr => 1) or die;
defined(my $guest = fork) or die;
if (!$guest) {
    local $SIG{PIPE} = 'IGNORE';
    while (my $c = $service->accept) {
        my $head = '';
        1 while sysread($c, $head, 4096, length $head)
                && $head !~ /\r\n\r\n/;
        syswrite $c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                     . "Connection: close\r\n\r\nok";
    }
    POSIX::_exit(0);
}

sub conf {
    my ($vms) = @_;
    return nginx_conf(workers => 1) =~ s/(hatch_zone [^;]+);/$1 vms=$vms;/r;
}

sub vm { return zone()->{vms}[0] }

sub inode { return (stat "$dir/run/zone.activity")[1] }

start_nginx(conf => conf(64));
create_route($id, 'one');
is(page('one')->{status}, 200, 'a request');
is(vm()->{requests}, 1, 'is counted');

for my $vms (128, 32) {
    my ($before, $old) = (inode(), (workers())[0]);
    write_file("$dir/nginx.conf", conf($vms));
    kill 'HUP', Test::Hatch::nginx_pid();
    wait_until('the old worker has gone', sub { !grep $_ == $old, workers() });

    isnt(inode(), $before, "vms=$vms: another file");
    is(vm()->{requests}, 1, 'has the count');
    cmp_ok(vm()->{last_request_age_ms}, '<', 60_000, 'and the stamp');
    is(metrics()->{'hatch_requests_total'}, 1, '/metrics goes on');
}

# the agent reads the file that there is now
is(page('one')->{status}, 200, 'another request');
is(vm()->{requests}, 2, 'is counted, too');
my $began = time;
is(api('PATCH', "/vms/$id", { idle_timeout => 3 })->{status}, 200, 'a timeout');
ok(wait_state($id, 'paused', 15), 'it falls asleep');
cmp_ok(time - $began, '>', 2.5, 'not sooner than it should');

kill 'KILL', $guest;
waitpid $guest, 0;
done();
