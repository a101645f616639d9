#!/usr/bin/perl

# Either end of the wake socket survives the other: an agent that answers
# nonsense, nothing, or is another program; workers that send nonsense.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my $sock = "$dir/run/wake.sock";
my $vm = 'vm_paused2222222222';
my $unit = "$Test::Hatch::build/unit";

# a VM that sleeps, and no agent
system("$unit/zone-poke", "$dir/run/zone", 16384, $vm, 'paused', '127.0.0.1')
    == 0 or die;
mkdir "$dir/routes";
system("$unit/route-poke", "$dir/routes", 'rt_aaaaaaaaaaaaaaaa', $vm, 'a', 80)
    == 0 or die;
system('chown', '-R', 'www-data', "$dir/routes") == 0 or die;

# An "agent": code->(its end of the connection) for each worker that connects.
my $peer;
sub peer {
    my ($code) = @_;
    unlink $sock;
    my $listener = IO::Socket::UNIX->new(Local => $sock, Listen => 8) or die;
    chmod 0666, $sock;
    $peer = fork // die;
    if (!$peer) {
        while (my $c = $listener->accept) {
            next if fork;
            $code->($c);
            POSIX::_exit(0);
        }
        POSIX::_exit(0);
    }
}
sub no_peer { kill 'KILL', $peer; waitpid $peer, 0; unlink $sock }

# One message: type, kind, request, timeout, duration, port, failure.
sub message {
    my ($request, %m) = @_;
    return pack 'L S S Q L L S S L a24 Q', $m{magic} // 0x32574148, $m{type},
           $m{kind} // 0, $request, $m{timeout} // 0, $m{duration} // 0, 0,
           $m{failure} // 0, 0, '', 0;
}
# Listens, and says nothing (more) until the worker hangs up.
sub silent { my ($c) = @_; 1 while sysread $c, my $m, 64 }
sub asked { my ($c) = @_; sysread($c, my $m, 64) // return;
            return if length $m < 64;
            return (unpack 'L S S Q L L S S L a24 Q', $m)[3] }

(my $conf = nginx_conf(workers => 1))
    =~ s/(hatch_agent [^;]+);/$1 max_held=3 max_held_per_vm=2;/;
$conf =~ s/(hatch_route hatch.localhost;)/$1 hatch_wake_timeout 2s;/;
peer(\&silent);
start_nginx(conf => $conf);

sub answer {
    my ($r, $body) = (page('a'));
    return 'none' if !$r;
    return "$r->{status} " . (eval { json($r->{body})->{code} } // '');
}

# --- an agent that says nothing ---

my $began = time;
is(answer(), '504 wake_timeout', 'an agent that never answers: 504');
cmp_ok(time - $began, '<', 8, 'in time');

# no more than hatch_agent allows
my @held = map {
    my $s = Test::Hatch::connect_to('127.0.0.1:9090');
    print $s "GET / HTTP/1.1\r\nHost: a.hatch.localhost\r\n"
           . "Connection: close\r\n\r\n";
    $s->flush;
    $s;
} 1 .. 5;
my %got;
for (@held) { local $/; my $text = <$_>;
              $got{join ' ', $text =~ m{^HTTP/1.1 (\d+).*"code":"(\w+)"}s}++ }
is_deeply(\%got, { '504 wake_timeout' => 2, '503 too_many_held' => 3 },
          'max_held_per_vm');
no_peer();

# --- an agent that answers nonsense ---

my %nonsense = (
    'hangs up' => [sub { }, '503 agent_unavailable'],
    'another program' => [sub { my ($c) = @_; asked($c);
                                syswrite $c, 'HTTP/1.1 400 Bad' x 8;
                                silent($c) }, '504 wake_timeout'],
    'half a message' => [sub { my ($c) = @_;
                               my $n = asked($c);
                               syswrite $c, substr message($n, type => 3), 0, 9
                           }, '503 agent_unavailable'],
    'an answer to nobody' => [sub { my ($c) = @_; my $n = asked($c);
                                    syswrite $c, message($n + 256, type => 3);
                                    silent($c) }, '504 wake_timeout'],
    'an unknown failure' => [sub { my ($c) = @_; my $n = asked($c);
                                   syswrite $c, message($n, type => 4,
                                                        failure => 99,
                                                        timeout => 7000);
                                   silent($c) }, '503 wake_failed'],
    'ready, but it is not' => [sub { my ($c) = @_;
                                     while (defined(my $n = asked($c))) {
                                         syswrite $c, message($n, type => 3,
                                                              kind => 1);
                                     } }, '504 wake_timeout'],
);
for my $what (sort keys %nonsense) {
    my ($code, $expected) = @{ $nonsense{$what} };
    peer($code);
    $began = time;
    like(answer(), qr/^(?:\Q$expected\E|504 wake_timeout)$/, $what);
    cmp_ok(time - $began, '<', 15, 'in time');
    no_peer();
}
ok(healthz(), 'the worker lives');
is(scalar workers(), 1, 'and is the only one');
stop_nginx();

# --- workers that send nonsense ---

start_agent();
my %bad = (
    'text' => 'x' x 64,
    'another version' => message(1, type => 1, magic => 1),
    'a type of the other side' => message(1, type => 3),
    'no port' => message(1, type => 1, timeout => 1000),
    'no end' => message(1, type => 1) . 'x' x 640,
);
for my $what (sort keys %bad) {
    my $c = Test::Hatch::connect_to($sock);
    syswrite $c, $bad{$what};
    ok(!sysread($c, my $text, 64), "$what: the agent hangs up");
}
my @many = map Test::Hatch::connect_to($sock), 1 .. 500;
syswrite $_, 'x' x 63 for @many;
close $_ for @many;
ok(create_vm(), 'the agent lives');
is((stat $sock)[2] & 0777, 0660, 'the socket is for its group only');

allow_log(qr/is not an agent of this version|breaks its rules/);
done();
