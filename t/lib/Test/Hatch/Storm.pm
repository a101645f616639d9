package Test::Hatch::Storm;

# Clients for a server that is reloaded and replaced all the time, each a
# process of its own, and a guest for WebSockets.
#
# Every request has a connection of its own and is sent in one piece, which
# nginx reads as one.  A worker that ends may close a connection of which it has
# read nothing: the kernel then resets it, because data was left unread, or
# because data came after the end.  Only then, and if nothing was answered, a
# request is sent again.  An end without a reset means that the request was
# read: without a whole answer it is lost.

use strict;
use warnings;

use Exporter ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Socket qw(pack_sockaddr_in INADDR_LOOPBACK IPPROTO_TCP SOL_SOCKET
              SO_ERROR SO_RCVBUF TCP_INFO);
use Test::Hatch;
use Time::HiRes qw(time sleep);

our @ISA = ('Exporter');
our @EXPORT = qw(ask_once request_text start_client end_clients
                 start_echo open_socket socket_lives close_sockets);

use constant { TCP_CLOSE => 7, PATIENCE => 15 };

our $again = 0;         # requests that were sent again

my (@clients, $echo);


sub request_text {
    my ($method, $host, $path, $body, @headers) = @_;
    push @headers, 'Content-Length: ' . length $body if defined $body;
    return join("\r\n", "$method $path HTTP/1.1", "Host: $host",
                'Connection: close', @headers, '', '') . ($body // '');
}


# A request on its way: { text, port, socket }, or { lost }.  A slow one leaves
# all but some KiB of its answer to the server until it is read.
sub begin {
    my ($port, $text, $slow) = @_;
    my $s = IO::Socket::INET->new(Proto => 'tcp') or die $!;
    # before it connects: the window is told then
    setsockopt $s, SOL_SOCKET, SO_RCVBUF, pack 'i', 8192 if $slow;
    $s->connect(pack_sockaddr_in($port, INADDR_LOOPBACK))
        or return { lost => "connect: $!" };
    local $SIG{PIPE} = 'IGNORE';
    my $sent = syswrite $s, $text;
    return { text => $text, port => $port, socket => $s, slow => $slow,
             reset => !defined $sent };
}


# The peer had data that it never read: nothing answers for it any more.
sub was_reset {
    my ($s) = @_;
    my $until = time + .2;

    while (time < $until) {
        return 1 if unpack 'i', getsockopt $s, SOL_SOCKET, SO_ERROR;
        return 1 if unpack('C', getsockopt $s, IPPROTO_TCP, TCP_INFO)
                    == TCP_CLOSE;
        sleep .005;
    }
    return 0;
}


sub is_whole {
    my ($answer) = @_;
    my ($head, $body) = split /\r\n\r\n/, $answer, 2;
    return 0 if !defined $body;
    return $body =~ /(?:^|\r\n)0\r\n\r\n$/
        if $head =~ /^Transfer-Encoding: chunked/mi;
    return $head =~ /^Content-Length: (\d+)/mi && $1 == length $body;
}


# The answer of a request that began: { status, body }, or { lost => why }.
sub finish {
    my ($q) = @_;
    my ($answer, $until) = ('', time + PATIENCE);

    return $q if $q->{lost};

    while (!$q->{reset}) {
        return { lost => 'no end of the answer in time' } if time > $until;
        next if !IO::Select->new($q->{socket})->can_read(1);
        my $n = sysread $q->{socket}, $answer, $q->{slow} ? 2048 : 65536,
                        length $answer;
        last if defined $n && $n == 0;
        $q->{reset} = 1 if !defined $n;
    }

    if ($answer eq '') {
        return { lost => 'closed without an answer' }
            if !$q->{reset} && !was_reset($q->{socket});
        $again++;
        return ask_once(@$q{qw(port text slow)});
    }

    return { lost => 'cut: ' . length($answer) . ' bytes of an answer' }
        if !is_whole($answer);
    my ($head, $body) = split /\r\n\r\n/, $answer, 2;
    return { status => $head =~ /^HTTP\/1\.1 (\d+)/ ? $1 : 0, body => $body };
}


sub ask_once { return finish(begin(@_)) }


# --- clients ---

# A process that does the code until end_clients(), each time with a function
# that asks and expects: $expect->(WHAT, STATUS, REQUEST...); it may return a
# reference to what shall be kept.
sub start_client {
    my ($name, $code) = @_;
    my $pid = fork // die "fork: $!";

    if ($pid) {
        push @clients, [$pid, "$dir/client.$name"];
        return;
    }

    my ($stop, $keep) = (0);
    my %note = (name => $name, asked => 0, failed => []);
    local $SIG{TERM} = sub { $stop = 1 };
    my $expect = sub {
        my ($what, $status, @request) = @_;
        my @q = map begin(@$_), ref $request[0] ? @request : \@request;
        my $last;
        for my $r (map finish($_), @q) {
            $note{asked}++;
            $last = $r;
            next if !$r->{lost} && $r->{status} =~ /^(?:$status)$/;
            push @{ $note{failed} }, "$name: $what: "
                . ($r->{lost} // "$r->{status} "
                                 . substr $r->{body} // '', 0, 120);
        }
        return $last;
    };

    while (!$stop) {
        $keep = $code->($expect) // $keep;
        last if @{ $note{failed} } > 20;
    }
    write_file("$dir/client.$name", encode_json({
        %note, again => $again, keep => $keep }));
    POSIX::_exit(0);
}


# Their notes, by name.
sub end_clients {
    kill 'TERM', map $_->[0], @clients;
    my %notes;

    for (splice @clients) {
        my ($pid, $file) = @$_;
        waitpid $pid, 0;
        my $note = eval { decode_json(slurp($file)) }
                   // { name => $file, asked => 0, again => 0,
                        failed => ["$file: it has died"] };
        $notes{$note->{name}} = $note;
    }
    return \%notes;
}


# --- WebSockets ---

# A guest that agrees to any upgrade and then says what it hears.
sub start_echo {
    my ($address) = @_;
    my $listener = IO::Socket::INET->new(Listen => 100, ReuseAddr => 1,
                                         LocalAddr => $address) or die $!;
    $echo = fork // die;
    return if $echo;

    my $select = IO::Select->new($listener);
    my %head;
    while (my @ready = $select->can_read) {
        for my $s (@ready) {
            if ($s == $listener) {
                my $new = $s->accept or next;
                $head{$new} = '';
                $select->add($new);
                next;
            }
            if (!sysread $s, my $data, 4096) {
                $select->remove($s);
                delete $head{$s};
                close $s;
            } elsif (!defined $head{$s}) {
                syswrite $s, $data;
            } elsif (($head{$s} .= $data) =~ /\r\n\r\n$/) {
                undef $head{$s};
                syswrite $s, "HTTP/1.1 101 Switching Protocols\r\n"
                             . "Upgrade: websocket\r\n"
                             . "Connection: Upgrade\r\n\r\n";
            }
        }
    }
    POSIX::_exit(0);
}


# One more of the list that is open, or nothing.
sub open_socket {
    my ($sockets, $port, $host) = @_;

    for (1 .. 10) {
        my $q = begin($port, "GET / HTTP/1.1\r\nHost: $host\r\n"
                      . "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        my $s = $q->{socket} or return;
        my $head = '';
        while ($head !~ /\r\n\r\n$/) {
            sysread $s, $head, 1, length $head or last;
        }
        next if $head eq '' && was_reset($s);
        return if $head !~ / 101 /;
        push @$sockets, $s;
        return $s;
    }
    return;
}


sub socket_lives {
    my ($s) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $line = rand() . "\n";
    syswrite $s, $line or return 0;
    my $heard = '';
    while ($heard !~ /\n$/) {
        IO::Select->new($s)->can_read(10) or return 0;
        sysread $s, $heard, 100, length $heard or return 0;
    }
    return $heard eq $line;
}


sub close_sockets { close $_ for splice @{ $_[0] } }


END {
    local $?;
    kill 'KILL', grep defined, $echo, map $_->[0], @clients;
}


1;
