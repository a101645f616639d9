#!/usr/bin/perl

# Who listens at the wake socket takes each connection, and ends it at the
# first question or answers nonsense: the test is that program.  Those who are
# held are answered as if nobody listened, nothing spins, and one line of the
# log tells of it.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my $format = 'L S S Q L L S S L a24 Q';
my $magic = 0x32574148;
my ($sleeps, $runs) = qw(vm_paused2222222222 vm_running222222222);
my $patience = 5;

sub put {
    my ($vm, $state, $incarnation) = @_;
    system("$Test::Hatch::build/unit/zone-poke",
           "--incarnation=$incarnation", "$dir/run/zone", 16384, $vm, $state,
           '127.0.0.1') == 0 or die;
}

# --- who listens ---

my $listen = IO::Socket::UNIX->new(Local => "$dir/run/wake.sock",
                                   Listen => 8) or die $!;
chmod 0777, "$dir/run/wake.sock";

sub readable {
    my ($socket, $seconds) = @_;
    vec(my $in = '', fileno $socket, 1) = 1;
    return select $in, undef, undef, $seconds;
}

sub question {
    my ($worker) = @_;
    my $text = '';
    while (length $text < 64) {
        sysread $worker, $text, 64 - length $text, length $text or return;
    }
    my %m;
    @m{qw(magic type kind request timeout duration port failure reserved vm)}
        = unpack $format, $text;
    return \%m;
}

# What is done with the first question of each connection.
my %with = (
    'it hangs up' => sub { },
    'nonsense' => sub { syswrite $_[0], 'HTTP/1.1 400 Bad' x 8 },
    'half an answer' => sub {
        syswrite $_[0], pack 'L S S', $magic, 3, 0
    },
    'an answer' => sub {
        my ($worker, $m) = @_;
        put($m->{vm} =~ tr/\0//dr, 'running', 9);
        syswrite $worker, pack $format, $magic, 3, 1, $m->{request}, 0, 5, 0,
                               0, 0, '', 9;
        return $worker;
    },
);

# Until the client has an answer: returns when it came, and of how many
# connections there was a question.
my @kept;
sub listen_until {
    my ($client, $with) = @_;
    my ($began, $n) = (time, 0);

    while (!readable($client, 0)) {
        last if time - $began > 20;
        next if !readable($listen, .02);
        my $worker = $listen->accept;
        # one that asks nothing yet is idle
        if (!readable($worker, .2)) { push @kept, $worker; next }
        my $m = question($worker) or next;
        $n++;
        push @kept, grep ref, $with{$with}->($worker, $m);
    }

    return (time - $began, $n);
}

# Connections on which nothing was asked before.
sub idle {
    my ($with) = @_;
    while (readable($listen, 0)) { push @kept, $listen->accept }
    my @asked = grep readable($_, .2), @kept;
    @kept = ();
    for my $worker (@asked) {
        my $m = question($worker) or next;
        $with{$with}->($worker, $m);
    }
    return scalar @asked;
}

sub client {
    my ($host) = @_;
    my $s = Test::Hatch::connect_to('127.0.0.1:9090') or die $!;
    print $s "GET / HTTP/1.1\r\nHost: $host.hatch.localhost\r\n"
           . "Connection: close\r\n\r\n";
    $s->flush;
    return $s;
}

sub answer {
    my ($client) = @_;
    local $/;
    my $text = <$client> // '';
    my ($status) = $text =~ m{^HTTP/1\.1 (\d+)};
    my $code = $text =~ /"code":"(\w+)"/ ? $1
             : $text =~ /\r\n\r\n(.*)/s ? $1 : '';
    return join ' ', $status // 'none', $code;
}

sub told {
    my ($text) = @_;
    return scalar(() = slurp("$dir/logs/error.log") =~ /\Q$text\E/g);
}

put($sleeps, 'paused', 0);
put($runs, 'running', 1);
mkdir "$dir/routes";
system("$Test::Hatch::build/unit/route-poke", "$dir/routes", @$_) == 0 or die
    for ['rt_aaaaaaaaaaaaaaaa', $sleeps, 'sleeps', 9999],
        ['rt_bbbbbbbbbbbbbbbb', $runs, 'runs', 9999];
system('chown', '-R', 'www-data', "$dir/routes") == 0 or die;
start_nginx(conf => nginx_conf(workers => 1, http => <<'END'));
    server { listen 127.0.0.1:9999; location / { return 200 guest; } }
END

# --- each kind of it ---

for my $with ('it hangs up', 'nonsense', 'half an answer') {
    my $accused = $with eq 'nonsense' ? 'is not an agent of this version'
                                      : 'answers no question';
    my $before = told($accused);
    put($sleeps, 'paused', 0);

    my $client = client('sleeps');
    my ($seconds, $n) = listen_until($client, $with);
    $n += idle($with);
    is(answer($client), '503 agent_unavailable', "$with: as without an agent");
    cmp_ok($seconds, '>', $patience - 1, "$with: not too soon");
    cmp_ok($seconds, '<', $patience + 2.5, "$with: in time");
    cmp_ok($n, '>', 2, "$with: more than one try");
    cmp_ok($n, '<', 20, "$with: but no spinning");

    # one that is up needs nobody
    my $up = client('runs');
    ($seconds) = listen_until($up, $with);
    is(answer($up), '200 guest', "$with: a VM that runs is reached");
    cmp_ok($seconds, '<', 2, "$with: at once");

    $client = client('sleeps');
    listen_until($client, $with);
    is(answer($client), '503 agent_unavailable', "$with: the next one, too");
    is(told($accused), $before + 1, "$with: told once");

    # --- and the real one is back ---

    my $back = told('hatch: the agent at');
    $client = client('sleeps');
    ($seconds) = listen_until($client, 'an answer');
    is(answer($client), '200 guest', "$with: an agent in its place");
    cmp_ok($seconds, '<', $patience, "$with: is asked soon");
    is(told('hatch: the agent at'), $back + 1, "$with: that is told, too");
    close $_ for splice @kept;
}

allow_log(qr/is not an agent of this version/);
done();
