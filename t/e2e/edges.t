#!/usr/bin/perl

# Clients that leave at the edges of a hold, and what counts as held.  A
# process that stands still (SIGSTOP) has things happen in an order.

use strict;
use warnings;

use Socket qw(SO_LINGER SOL_SOCKET);
use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;
use Time::HiRes qw(time);

sub limits {
    my ($parameters) = @_;
    return sub { $_[0] =~ s/(hatch_agent [^;]+);/$1 $parameters;/r };
}

sub row {
    return [{ held => 0, listen => 'sndbuf=8k' }, q{
        location / { hatch_wake_timeout 2s; ROUTE PASS }
        location /big { ROUTE PASS slice 64k;
                        proxy_set_header Range $slice_range; }
        location /ignore { ROUTE PASS proxy_ignore_client_abort on; } }];
}

my $port;
sub send_request {
    my ($name, $path, $body) = @_;
    my $s = Test::Hatch::connect_to("127.0.0.1:$port") or die "$port: $!";
    print $s defined $body ? 'POST' : 'GET', " $path HTTP/1.1\r\n",
             "Host: $name.hatch.localhost\r\nConnection: close\r\n",
             defined $body ? 'Content-Length: ' . length($body) . "\r\n" : '',
             "\r\n", $body // '';
    $s->flush;
    return $s;
}

sub reset_it {
    my ($s) = @_;
    setsockopt $s, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 or die;
    close $s;
}

# "STATUS code" or "STATUS" of each answer.
sub answers {
    my %got;
    for my $s (@_) {
        local $/;
        my $text = <$s> // '';
        my ($status) = $text =~ m{^HTTP/1\.1 (\d+)};
        my ($code) = $text =~ /"code":"(\w+)"/;
        $got{join ' ', grep defined, $status // 'none', $code}++;
    }
    return \%got;
}

sub held_total { return metrics()->{hatch_held_requests_total} // 0 }

# Clients that have left, as the access log has them.
sub left {
    my ($path) = @_;
    return scalar(() = slurp("$dir/logs/access.log")
                       =~ m{"\w+ $path[^"]*" 499 }g);
}

# Until no slot is taken by what was before.
sub drain {
    return wait_until('there is room', sub {
        answers(send_request('never', '/drain'))->{'504 wake_timeout'}
    });
}

# While the process stands, the code runs.
sub standing {
    my ($pid, $code) = @_;
    kill_pid('STOP', $pid);
    wait_until('it stands', sub {
        slurp("/proc/$pid/stat") =~ /\) T /
    });
    my @all = $code->();
    kill_pid('CONT', $pid);
    return @all;
}

# --- gone before the hold begins ---

matrix({ workers => 1, change => limits('max_held=2') }, two => row());
$port = row_port('two');
my ($worker) = workers();

my %leave = (
    'closed' => sub { close send_request('never', '/closed') },
    'reset' => sub { reset_it(send_request('never', '/reset')) },
    'closed behind a body' => sub {
        close send_request('never', '/closed-behind', 'x' x 1000)
    },
);
for my $how (sort keys %leave) {
    my $path = '/' . ($how =~ tr/ /-/r =~ s/-a-body//r);
    standing($worker, sub { $leave{$how}->() for 1 .. 10 });
    ok(wait_until("10 clients that left are noticed, $how", sub {
        left($path) == 10
    }, 1.5), "noticed at once: $how");
    is_deeply(answers(send_request('never', '/good')),
              { '504 wake_timeout' => 1 }, "and the next one is held: $how");
    drain();
}

# and in the middle of it
for my $how ('closed', 'reset') {
    my $before = held_total();
    my @held = map send_request('never', "/middle-$how"), 1 .. 2;
    wait_until('two are held', sub { held_total() == $before + 2 });
    is_deeply(answers(send_request('never', '/more')),
              { '503 too_many_held' => 1 }, 'a third one is not');
    $how eq 'reset' ? reset_it($_) : close $_ for @held;
    ok(wait_until("they have left, $how", sub { left("/middle-$how") == 2 },
                  1.5), "they are noticed: $how");
    is_deeply(answers(send_request('never', '/good')),
              { '504 wake_timeout' => 1 }, "and the next one is held: $how");
    drain();
}

# --- proxy_ignore_client_abort: gone, and its request is not ---

my $agent = zone()->{agent_pid};

sub delivered {
    my ($path) = @_;
    my $n = () = guest_log() =~ m{^A POST $path$}mg;
    return $n;
}

sub abandoned {
    my ($how, $path, $leave) = @_;
    sleep_now();
    standing($agent, sub {
        my $before = held_total();
        my $s = $leave eq 'before' ? undef : send_request('a', $path, 'body');
        standing($worker, sub { close send_request('a', $path, 'body') })
            if !$s;
        wait_until("it is held, $how", sub { held_total() > $before }, 2);
        close $s if $s;
        # what came before is read before this is answered
        healthz();
    });
}

for my $when ('before', 'during') {
    abandoned("gone $when the hold", "/ignore/$when", $when);
    ok(wait_until("delivered, gone $when the hold", sub {
        delivered("/ignore/$when")
    }, 5), "delivered: gone $when the hold");
    check('the guest', ask($port, 'GET a /x'), '200 A GET /x');
    is(delivered("/ignore/$when"), 1, 'once');
}

# without it: as with any proxy
abandoned('during the hold', '/dropped', 'during');
check('the guest', ask($port, 'GET a /y'), '200 A GET /y');
is(delivered('/dropped'), 0, 'without it, a request goes with its client');

# --- what counts as held ---

# others, while a VM is in its first second
check('another guest', ask($port, 'GET b /'), '200 B GET /');
sleep_now();
my $before = held_total();
check('a guest that is woken', ask($port, 'GET a /'), '200 A GET /');
check('another guest', ask($port, 'GET b /'), '200 B GET /') for 1 .. 5;
is(held_total() - $before, 1, 'only who waited was held');

# those who wait for their turn of a guest that was just woken
matrix({ workers => 1, change => limits('max_held_per_vm=10') },
       herd => row());
$port = row_port('herd');

my ($got, $took);
for (1 .. 5) {
    sleep_now();
    my @clients;
    standing(guest_pid(), sub {
        my $first = send_request('a', '/first');
        wait_until('awake', sub { Test::Hatch::state($vm{a}) eq 'running' });
        my $began = time;
        @clients = map send_request('a', "/herd/$_"), 1 .. 40;
        # all have been read when this is answered
        healthz();
        $took = time - $began;
        push @clients, $first;
    });
    $got = answers(@clients);
    last if $took < .5;
}
cmp_ok($took, '<', .5, 'within the first second');
is($got->{200} + ($got->{'503 too_many_held'} // 0), 41, 'all are answered')
    or diag explain $got;
# in a quarter of a second others take the place of those that take long
cmp_ok($got->{200}, '<=', $took < .2 ? 25 : 35,
       'at most 10 wait for their turn, and a few go')
    or diag explain $got;

# --- a VM that is deleted in the middle of a download ---

my $address = '127.55.0.6';
my $tenant = create_vm({ guest_ip => $address, idle_timeout => undef })->{id};
create_route($tenant, 'big');
write_file("$dir/www/guest-big", 'x' x 4_000_000);

my $download = send_request('big', '/big');
sysread $download, my $part, 4096;
like($part, qr{^HTTP/1\.1 200 .*xxx}s, 'a download of many slices');
is(api('DELETE', "/vms/$tenant")->{status}, 200, 'its VM is deleted');
create_vm({ guest_ip => $address, idle_timeout => undef })
    or fail('another one has its address');
write_file("$dir/www/next", 'n' x 4_000_000);
rename "$dir/www/next", "$dir/www/guest-big" or die;
my $text = $part;
1 while sysread $download, $text, 65536, length $text;
ok($text !~ /nnn/, 'nothing of the next one is in it');
cmp_ok(length $text, '<', 3_900_000, 'it is cut');

# the slice that does not come
allow_log(qr{\[error\].* request: "GET /big });
done();
