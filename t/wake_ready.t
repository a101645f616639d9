#!/usr/bin/perl

# Of which guest an agent says READY, asked by the module: the test is the
# agent.  Only what is said of the guest that the zone has is believed.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my ($ask, $wait, $ready) = 1 .. 3;
my ($none, $resume) = (0, 1);
my $format = 'L S S Q L L S S L a24 Q';
my $magic = 0x32574148;
my $vm = 'vm_running222222222';

# The zone has the VM with this run of its guest.
sub runs {
    my ($incarnation, $state) = @_;
    system("$Test::Hatch::build/unit/zone-poke",
           "--incarnation=$incarnation", "$dir/run/zone", 16384, $vm,
           $state // 'running', '127.0.0.1') == 0 or die;
}

# --- the agent ---

my $listen = IO::Socket::UNIX->new(Local => "$dir/run/wake.sock",
                                   Listen => 8) or die $!;
chmod 0777, "$dir/run/wake.sock";
my $worker;

sub readable {
    my ($socket, $seconds) = @_;
    vec(my $in = '', fileno $socket, 1) = 1;
    return select $in, undef, undef, $seconds;
}

# The next ASK; undef if none comes.
sub asked {
    my ($seconds) = @_;
    my ($text, %m) = ('');
    while (length $text < 64) {
        return if !readable($worker, $seconds // 5);
        sysread $worker, $text, 64 - length $text, length $text or return;
    }
    @m{qw(magic type kind request timeout duration port failure reserved vm
          incarnation)} = unpack $format, $text;
    return \%m;
}

sub say_ready {
    my ($m, $incarnation, $kind) = @_;
    syswrite $worker, pack $format, $magic, $ready, $kind // $none,
                           $m->{request}, 0, 5, 0, 0, 0, '', $incarnation;
}

# Each ASK is answered with the next of these; then nobody asks any more.
sub answers {
    my ($name, @ready) = @_;
    my $n = 0;
    for my $next (@ready) {
        my $m = asked() or last;
        $n++;
        if (ref $next eq 'CODE') { $next->($m) }
        else { say_ready($m, $next eq 'unknown' ? 0 : $next) }
    }
    return is($n, scalar @ready, "$name: asked so often");
}

# --- clients ---

sub client {
    my ($path) = @_;
    my $s = Test::Hatch::connect_to('127.0.0.1:9090') or die $!;
    print $s 'GET ', $path // '/', " HTTP/1.1\r\nHost: demo.hatch.localhost\r\n"
           . "Connection: close\r\n\r\n";
    $s->flush;
    return $s;
}

sub answered {
    my ($name, $expected, @clients) = @_;
    for my $s (@clients) {
        local $/;
        my $text = <$s> // '';
        my ($status) = $text =~ m{^HTTP/1\.1 (\d+)};
        my $body = $text =~ /"code":"(\w+)"/ ? $1
                 : $text =~ /\r\n\r\n(.*)/s ? $1 : '';
        is(join(' ', grep defined, $status, $body), $expected, $name);
    }
    ok(!readable($worker, 0), "$name: nobody asks again");
}

runs(1);
mkdir "$dir/routes";
system("$Test::Hatch::build/unit/route-poke", "$dir/routes",
       'rt_aaaaaaaaaaaaaaaa', $vm, 'demo', 9999) == 0 or die;
system('chown', '-R', 'www-data', "$dir/routes") == 0 or die;
start_nginx(conf => nginx_conf(workers => 1, http => <<'END')
    server { listen 127.0.0.1:9999; location / { return 200 guest; } }
END
    =~ s/(hatch_route hatch.localhost;)/$1 hatch_wake_timeout 2s;/r);
ok(readable($listen, 5), 'the worker connects');
$worker = $listen->accept;

# --- the same guest ---

my $client = client();
my $m = asked();
is($m->{vm} =~ tr/\0//dr, $vm, 'asked for the VM');
is($m->{port}, 9999, 'and the port of the route');
ok(!readable($client, 0), 'the request is held meanwhile');
say_ready($m, 1);
answered('READY of the guest', '200 guest', $client);
answered('and later nobody is asked', '200 guest', client());

# --- another guest ---

runs(2);
$client = client();
answers('READY of the one before', 1, 1, sub {
    ok(!readable($client, 0), 'the request is still held');
    say_ready($_[0], 2);
});
answered('until it is of this one', '200 guest', $client);
answered('which is known then', '200 guest', client());

runs(3);
$client = client();
answers('READY of one that the zone does not have yet', 4, 4, sub {
    runs(4);
    say_ready($_[0], 4);
});
answered('until the zone has it', '200 guest', $client);
answered('and it is known', '200 guest', client());

# what was said of the one before is not credited to the next one
runs(5);
$client = client();
answers('it began anew while READY was under way', sub {
    runs(6);
    say_ready($_[0], 5);
}, 6);
answered('asked again', '200 guest', $client);

# --- many that wait ---

runs(7);
my @clients = map client(), 1 .. 5;
$m = asked();
healthz() for 1 .. 3;
ok(!readable($worker, 0), 'one question for five that wait');
say_ready($m, 6);
answers('once more for all of them', 7);
answered('all five', '200 guest', @clients);

# --- after a wake, when they begin in turns ---

for my $n (1, 100) {
    runs(7, 'paused');
    my $held = metrics()->{hatch_held_requests_total};
    @clients = map client(), 1 .. $n;
    $m = asked();
    wait_until('all are held', sub {
        metrics()->{hatch_held_requests_total} == $held + $n
    });
    runs($n == 1 ? 8 : 10);
    say_ready($m, 7, $resume);
    answers("$n held, woken as another one", sub {
        say_ready($_[0], $n == 1 ? 8 : 10, $resume);
    });
    answered("$n held", '200 guest', @clients);
}

# --- an agent of before ---

# It does not say of which guest: of the one that ran when it was asked, if it
# still does.
runs(11);
$client = client();
answers('READY of no guest', 'unknown');
answered('the request goes on', '200 guest', $client);
answered('and the guest is known', '200 guest', client());

runs(13);
$client = client();
answers('it began anew meanwhile', sub {
    runs(14);
    say_ready($_[0], 0);
}, 'unknown');
answered('asked again', '200 guest', $client);
answered('and it is known', '200 guest', client());

# of one that slept then nothing is known
runs(14, 'paused');
$client = client();
answers('READY after a wake', sub {
    runs(15);
    say_ready($_[0], 0, $resume);
});
answered('it goes on', '200 guest', $client);
$client = client();
answers('but the next one asks', 'unknown');
answered('once', '200 guest', $client);
answered('and not again', '200 guest', client());

# --- one that is always wrong ---

runs(16);
my $began = time;
$client = client();
my $times = 0;
while (!readable($client, 0)) {
    my $next = asked(.1) or next;
    say_ready($next, 15);
    $times++;
}
cmp_ok(time - $began, '>', 1.5, 'it is asked for as long as the hold lasts');
cmp_ok($times, '>', 3, 'more than once');
cmp_ok($times, '<', 16, 'but ever more seldom');
# the last question may have been on its way
1 while asked(.1);
answered('then it is over', '504 wake_timeout', $client);

# one who comes then does not wait for the pauses of those before
$client = client();
$times = 0;
while (time - $began < 30 && $times < 8) {
    my $next = asked() or last;
    say_ready($next, 15);
    $times++;
}
my $late = client();
$m = asked(.3);
ok($m, 'one who comes later is asked for at once');
say_ready($m, 16);
answered('both are', '200 guest', $client, $late);

# --- one whose time is always over at once ---

runs(17, 'paused');
$client = client();
$times = 0;
while (!readable($client, 0)) {
    my $next = asked(.1) or next;
    syswrite $worker, pack $format, $magic, 4, $none, $next->{request}, 0, 0,
                           0, 3, 0, '', 0;
    $times++;
}
cmp_ok($times, '>', 3, 'not ready, at once: asked again');
cmp_ok($times, '<', 16, 'but ever more seldom, too');
1 while asked(.1);
answered('until the hold is over', '504 wake_timeout', $client);

done();
