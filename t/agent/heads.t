#!/usr/bin/perl

# Requests that are refused for their first line or a header: nothing is done
# of them, the answer is JSON in valid UTF-8, and nobody is asked for a body
# that is not wanted.

use strict;
use warnings;

use Encode ();
use Test::Hatch world => 'plain';
use Test::More;

start_agent();
my $agent = "$dir/run/agent.sock";
my $vm = create_vm({ name => 'shop', idle_timeout => undef });
my $id = $vm->{id};

# --- a precondition that does not hold: nothing has changed ---

sub all_that_is {
    return [map api('GET', $_)->{body},
            '/vms', '/images', '/templates', "/vms/$id/snapshots"];
}
my $before = all_that_is();
my @changes = (
    ['PATCH', "/vms/$id", '{"name":"other"}'],
    ['POST', "/vms/$id/stop", '{"force":true}'],
    ['POST', "/vms/$id/pause", ''],
    ['POST', "/vms/$id/snapshot", ''],
    ['POST', '/vms', '{}'],
    ['POST', '/templates', '{"name":"one"}'],
    ['POST', '/images', '{"id":"img_one","kernel_path":"x"}'],
    ['DELETE', '/images/img_default', ''],
    ['DELETE', "/vms/$id", '']);
for (@changes) {
    my ($method, $path, $body) = @$_;
    my $r = http($agent, $method, $path, $body, 'If-Match' => '"v1"');
    is($r->{status}, 412, "$method $path with a tag");
    is(json($r->{body})->{code}, 'precondition_failed', 'its code');
    note_answer($method, $path, $body, { %$r });
}
is_deeply(all_that_is(), $before, 'nothing has changed');

my $r = http($agent, 'PATCH', "/vms/$id", '{"name":"other"}',
             'If-Match' => '*',
             'If-Unmodified-Since' => 'Sun, 06 Nov 1994 08:49:37 GMT');
is($r->{status}, 200, 'any tag, and a date');
is(json($r->{body})->{name}, 'other', 'it has changed');

# --- arguments: decoded, once ---

create_vm({ name => $_, idle_timeout => undef }) for qw(one two);
for (['limit=%32' => 2], ['%6cimit=2' => 2], ['limit=2&' => 2],
     ['name=%6fne' => 1], ['name=%256fne' => 0], ['name=%ff' => 0],
     ['state=running%2Cpaused' => 3], ['' => 3], ['&' => 3],
     ['limit=1#&x=1' => 1])
{
    my ($query, $n) = @$_;
    $r = http($agent, 'GET', "/vms?$query");
    is(scalar @{ json($r->{body}) }, $n, "GET /vms?$query");
}
$r = http($agent, 'GET', '/vms?limit=2&state=%72unning');
my ($next) = ($r->{headers}{link} // '') =~ /^<([^>]+)>; rel="next"$/;
is(scalar @{ json(http($agent, 'GET', $next)->{body}) }, 1, 'the next page');

# --- whatever is sent, the answer is JSON in UTF-8 ---

my $long = 'a' x 39 . "\xc3\xa4" x 40;      # cut in the middle at 40
for (['GET', '/vms/%ff'], ['GET', "/vms/\xff"], ['GET', "/vms/$long"],
     ['GET', '/vms/' . 'x' x 500], ['GET', '/%ff'], ['PUT', '/vms/%ff'],
     ['GET', '/vms?%ff=1'], ['GET', "/vms?$long=1"], ['GET', "/vms?\xc3=%ff"],
     ['GET', '/vms?state=%ff'], ['GET', "/vms?state=$long"],
     ['GET', '/vms?after=%e2%82'], ['GET', '/vms?limit=%f0%9f%98'],
     ['GET', '/vms?limit=5%zz'], ['GET', '/%zz'],
     ['POST', '/vms', "{\"$long\":1}"], ['POST', '/vms', "{\"\xff\":1}"],
     ['POST', '/vms', "{\"name\":\"$long\"}"],
     ['POST', '/vms', "{\"image_id\":\"$long\"}"],
     ['POST', '/vms', "{\"template_id\":\"$long\"}"],
     ['POST', '/vms', "{\"guest_ip\":\"$long\"}"],
     ['POST', '/vms', "{\"$long\":1,\"$long\":2}"],
     ['POST', '/images', "{\"kernel_path\":\"$long\"}"],
     ['POST', "/vms/$id/restore", "{\"snapshot_id\":\"$long\"}"],
     ['PATCH', "/templates/\xff", "{\"\xe4\":1}"])
{
    my ($method, $path, $body) = @$_;
    $r = http($agent, $method, $path, $body);
    my $text = eval { Encode::decode('UTF-8', $r->{body}, Encode::FB_CROAK
                                     | Encode::LEAVE_SRC) };
    my $what = "$method $path " . substr $body // '', 0, 20;
    $what =~ s/([^ -~])/sprintf '\x%02x', ord $1/ge;
    ok(defined $text, "UTF-8: $what");
    my $j = eval { json($r->{body}) };
    is(ref $j, 'HASH', 'JSON');
    like($r->{status}, qr/^(?:400|404|405|409)$/, 'an error');
}

# --- Expect: 100-continue ---

# The first line of what comes before a body is sent.
sub expects {
    my ($method, $target, $length, @headers) = @_;
    my $socket = Test::Hatch::connect_to($agent) or die;
    syswrite $socket, join "\r\n", "$method $target HTTP/1.1",
                      'Host: localhost', "Content-Length: $length",
                      'Expect: 100-continue', @headers, '', '';
    sysread $socket, my $answer, 4096;
    return ($answer // '', $socket);
}
for (['POST', '/nothing', 2, '404'], ['POST', '/vms/', 2, '404'],
     ['PUT', '/vms', 2, '405'], ['POST', '/vms?x=1', 2, '400'],
     ['POST', '/%zz', 2, '400'], ['POST', '/vms', 1048577, '413'],
     ['POST', '/vms', '99999999999', '413'],
     ['POST', '/vms', 2, '412', 'If-Match: "x"'])
{
    my ($method, $target, $length, $status, @headers) = @$_;
    my ($answer) = expects($method, $target, $length, @headers);
    like($answer, qr{^HTTP/1\.1 $status }, "$method $target, $length: $status");
    like($answer, qr/^Connection: close\r$/mi, 'and the connection ends');
}
for my $body ('{}', '{"x":1}') {
    my ($answer, $socket) = expects('POST', '/vms', length $body);
    like($answer, qr{^HTTP/1\.1 100 Continue\r\n\r\n$}, 'go on');
    syswrite $socket, $body;
    sysread $socket, $answer, 4096;
    like($answer, $body eq '{}' ? qr{^HTTP/1\.1 201 } : qr{^HTTP/1\.1 400 },
         'then the answer');
}

# one that does not wait is read to its end, and answered
$r = http($agent, 'POST', '/nothing', 'x' x 2_000_000);
is($r->{status}, 404, 'a large body for nobody');
$r = http($agent, 'POST', '/vms', 'x' x 1_048_577);
is($r->{status}, 413, 'too large a body');
is(json($r->{body})->{code}, 'payload_too_large', 'its code');
$r = request($agent, "POST /vms HTTP/1.1\r\nHost: localhost\r\n"
                     . "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                     . join('', map "10000\r\n" . 'x' x 65536 . "\r\n", 1 .. 17)
                     . "0\r\n\r\n");
is($r->{status}, 413, 'or one of unknown size');

# --- a connection goes on after a refusal ---

my $socket = Test::Hatch::connect_to($agent) or die;
syswrite $socket, "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
                  . "{}GET /vms/$id HTTP/1.1\r\nHost: x\r\n"
                  . "Connection: close\r\n\r\n";
my $answers = '';
1 while sysread $socket, $answers, 65536, length $answers;
is(join(' ', $answers =~ m{HTTP/1\.1 (\d+)}g), '404 200', 'two answers');

done();
