#!/usr/bin/perl

# nginx -s reload and the USR2 binary upgrade under traffic: no request
# fails, no route or count is lost.  kill -9 of a worker costs at most what
# that worker had in its hands.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

# The guest: a second nginx on an address that the test driver's VM gets.
sub guest_conf {
    return <<"EOF";
worker_processes 1;
pid $dir/guest.pid;
error_log $dir/logs/guest.log;
events { }
http {
    access_log off;
    server {
        listen 127.55.0.2:80;
        location / { return 200 "guest\\n"; }
    }
}
EOF
}

start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24' });
write_file("$dir/guest.conf", guest_conf());
reap(spawn("$dir/logs/guest.out", 'nginx', '-c', "$dir/guest.conf", '-e',
           "$dir/logs/guest.log"));
start_nginx();

my $vm = create_vm({ guest_ip => '127.55.0.2' });
create_route($vm->{id}, 'demo');

# Clients that ask without a pause until told to stop, but 20 times each, also
# where that comes soon; they print what failed.
sub traffic {
    my ($n) = @_;
    my @fh;

    for my $k (1 .. $n) {
        my $pid = open(my $fh, '-|') // die;
        if (!$pid) {
            my $stop = 0;
            my ($ok, $failed) = (0, 0);
            local $SIG{TERM} = sub { $stop = 1 };
            while (!$stop || $ok + $failed < 20) {
                my $r = $k % 2
                    ? http('127.0.0.1:9090', 'GET', '/', undef,
                           Host => 'demo.hatch.localhost')
                    : healthz();
                my $good = $r && $r->{status} == 200
                           && $r->{body} =~ /^guest\n$|"vm_count":1/;
                $good ? $ok++ : $failed++;
                print STDERR "# failed: ", $r ? $r->{body} : 'no answer', "\n"
                    if !$good && $failed < 3 && !$ENV{HATCH_QUIET};
            }
            print "$ok $failed\n";
            close STDOUT;
            POSIX::_exit(0);
        }
        push @fh, [$pid, $fh];
    }

    return sub {
        my ($ok, $failed) = (0, 0);
        kill 'TERM', map $_->[0], @fh;
        for (@fh) {
            my $fh = $_->[1];
            my ($o, $f) = (<$fh> // '0 1') =~ /(\d+) (\d+)/;
            $ok += $o, $failed += $f;
            close $fh;
        }
        return ($ok, $failed);
    };
}

is(http('127.0.0.1:9090', 'GET', '/', undef,
        Host => 'demo.hatch.localhost')->{body}, "guest\n", 'the guest');

# reload
my $stop = traffic(4);
for my $round (1 .. 5) {
    my @old = workers();
    kill 'HUP', Test::Hatch::nginx_pid();
    wait_until("reload $round", sub {
        my %now = map { $_ => 1 } workers();
        %now == 2 && !grep $now{$_}, @old;
    });
    create_route($vm->{id}, "r$round");
}
my ($ok, $failed) = $stop->();
cmp_ok($ok, '>', 50, "$ok requests during 5 reloads");
is($failed, 0, 'none of them failed');
is(healthz()->{json}{route_count}, 6, 'routes written in between are there');

# a configuration that is refused changes nothing
write_file("$dir/nginx.conf",
           Test::Hatch::nginx_conf() =~ s/hatch_zone/hatch_zoo/r);
my @before = workers();
kill 'HUP', Test::Hatch::nginx_pid();
allow_log(qr/unknown directive "hatch_zoo"/);
wait_until('nginx refuses it', sub { nginx_log() =~ /hatch_zoo/ });
is_deeply([workers()], \@before, 'a bad configuration: the old workers stay');
is(healthz()->{status}, 200, 'and answer');

# so does one whose store cannot be used
write_file("$dir/nginx.conf", Test::Hatch::nginx_conf()
           =~ s{hatch_route_store \S+}{hatch_route_store /etc/passwd}r);
kill 'HUP', Test::Hatch::nginx_pid();
allow_log(qr{"/etc/passwd" is not a directory});
wait_until('nginx refuses it', sub { nginx_log() =~ m{/etc/passwd} });
is_deeply([workers()], \@before, 'a bad store: the old workers stay');
write_file("$dir/nginx.conf", Test::Hatch::nginx_conf());

# a larger store
write_file("$dir/nginx.conf",
           Test::Hatch::nginx_conf() =~ s/size=64m/size=128m/r);
kill 'HUP', Test::Hatch::nginx_pid();
wait_until('reload', sub { !grep { my $w = $_; grep $_ == $w, @before }
                                workers() });
ok(create_route($vm->{id}, 'larger'), 'a larger store takes routes');

# binary upgrade
$stop = traffic(4);
my $old = Test::Hatch::nginx_pid();
kill 'USR2', $old;
wait_until('the new master', sub {
    my $new = Test::Hatch::nginx_pid();
    $new && $new != $old && -e "$dir/nginx.pid.oldbin" && workers() >= 2;
});
create_route($vm->{id}, 'upgrade');
kill 'WINCH', $old;
kill 'QUIT', $old;
wait_until('the old master ends', sub { !-e "/proc/$old" });
create_route($vm->{id}, 'upgraded');
($ok, $failed) = $stop->();
cmp_ok($ok, '>', 50, "$ok requests during the binary upgrade");
is($failed, 0, 'none of them failed');
is(healthz()->{json}{route_count}, 9, 'all routes are there');

# kill -9 of workers
$ENV{HATCH_QUIET} = 1;
$stop = traffic(4);
for (1 .. 5) {
    my ($worker) = workers();
    kill 'KILL', $worker;
    wait_until('a new worker', sub {
        my %now = map { $_ => 1 } workers();
        %now == 2 && !$now{$worker};
    });
}
($ok, $failed) = $stop->();
cmp_ok($ok, '>', 50, "$ok requests while workers were killed");
cmp_ok($failed, '<=', 5 * 4, "at most those in hand failed ($failed)");
is(healthz()->{json}{route_count}, 9, 'all routes are there');

allow_log(qr/worker process \d+ exited on signal 9/);
kill 'QUIT', slurp("$dir/guest.pid") =~ /(\d+)/;
done();
