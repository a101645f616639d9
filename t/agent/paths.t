#!/usr/bin/perl

# One rule for paths and queries (lib/hatch_uri.h), at every endpoint of the
# agent with every method that it has: asked at the agent's own socket, and
# through nginx, which hands the request's target on as it came.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

# the tables at the end of agent/api/api_*.c
my @endpoints;
for my $file (glob "$top/agent/api/api_*.c") {
    my $text = slurp($file);
    push @endpoints, [$1, $2]
        while $text =~ /\{ "([A-Z]+)", "(\/\S*)", API_/g;
}
cmp_ok(scalar @endpoints, '>=', 24, 'the agent has tables of endpoints');

my $agent = "$dir/run/agent.sock";
my %id = (vms => 'vm_aaaaaaaaaaaaaaaa', orphans => 'vm_aaaaaaaaaaaaaaaa',
          snapshots => 'snap_aaaaaaaaaaaaaaaa',
          images => 'img_aaaaaaaaaaaaaaaa', templates => 'tpl_aaaaaaaaaaaaaaaa');

# Status and code of an answer.  The body is no JSON, so nothing is made.
sub ask {
    my ($to, $method, $target, %headers) = @_;
    my $r = http($to, $method, $target, $method eq 'GET' ? undef : '{',
                 %headers) or return 'none';
    my $j = eval { json($r->{body}) };
    return join ' ', $r->{status}, ref $j eq 'HASH' ? $j->{code} // () : ();
}

# GET /%76ms/x for /vms/x
sub escaped {
    my ($path) = @_;
    return $path =~ s{(?<=/)(\w)}{sprintf '%%%02x', ord $1}egr;
}

sub rows {
    my ($to, $method, $path) = @_;
    my $plain = ask($to, $method, $path);
    my @same = (
        "/$path", "$path?", "$path?&", "$path#x", "$path#?x=1", "/.$path",
        "/x/..$path", escaped($path), "/%2e$path", "/%78/%2E%2e$path",
        $path =~ s{(?<=.)/}{//}gr, $path =~ s{(?<=.)/}{%2f}gr,
        "http://localhost$path");
    my @not_found = (
        "$path/", "$path//", "$path%2F", "$path/.", "$path/x/..",
        escaped($path) =~ s/%/%25/gr, "/x$path");
    # a byte more, and it may be the id of something
    push @not_found, "$path%20", "$path%3F" if $path !~ /_a+$/;
    my @path = ("$path%", "$path%4", "$path%zz", "/..$path",
                "$path%00", "/%00$path");
    my @argument = ("$path?_=1", "$path?_", "$path?=", "$path?%5f=1",
                    "$path?&_=1", "$path?_=1#x", "$path?x%20=",
                    "$path?_=%zz", "$path?%=1", "$path?a=%00");

    unlike($plain, qr/^(?:404 not_found|405|412|400 invalid_(?:arg|path))/,
           "$method $path: $plain");
    my %wrong;
    for ([$plain, @same], ['404 not_found', @not_found],
         ['400 invalid_path', @path], ['400 invalid_argument', @argument])
    {
        my ($expected, @targets) = @$_;
        for my $target (@targets) {
            my $got = ask($to, $method, $target);
            # what nginx itself refuses has no code
            $got =~ s/^400$/400 invalid_path/ if $to ne $agent;
            $wrong{$target} = "$got, not $expected" if $got ne $expected;
        }
    }
    return \%wrong;
}

# Preconditions: "*" holds, a tag never does, a date is no matter.
sub conditions {
    my ($to, $method, $path) = @_;
    my $plain = ask($to, $method, $path);
    my $date = 'Sun, 06 Nov 1994 08:49:37 GMT';
    my %wrong;
    for (['If-Match' => '*', $plain],
         ['If-Match' => '"x"', '412 precondition_failed'],
         ['if-match' => 'W/"x"', '412 precondition_failed'],
         ['If-Match' => '"x", *', '412 precondition_failed'],
         ['If-Match' => '', '412 precondition_failed'],
         ["If-Match: *\r\nIf-Match" => '"x"', '412 precondition_failed'],
         ['If-Unmodified-Since' => $date, $plain],
         ['If-Modified-Since' => $date, $plain],
         ['If-None-Match' => '*', $plain])
    {
        my ($name, $value, $expected) = @$_;
        # one that comes twice is 400 to nginx
        next if $name =~ /\n/ && $to ne $agent;
        my $got = ask($to, $method, $path, $name => $value);
        $wrong{"$name: $value"} = "$got, not $expected" if $got ne $expected;
    }
    my $got = ask($to, $method, "$path?_=1", 'If-Match' => '"x"');
    $wrong{'argument and tag'} = $got if $got ne '400 invalid_argument';
    $got = ask($to, $method, "$path/", 'If-Match' => '"x"');
    $wrong{'path and tag'} = $got if $got ne '404 not_found';
    return \%wrong;
}

sub table {
    my ($who, $to) = @_;
    for (@endpoints) {
        my ($method, $pattern) = @$_;
        my ($kind) = $pattern =~ m{^/(\w+)};
        (my $path = $pattern) =~ s/\{id\}/$id{$kind}/;
        is_deeply(rows($to, $method, $path), {}, "$who: $method $pattern");
        is_deeply(conditions($to, $method, $path), {}, 'its preconditions');
    }
}

table(agent => $agent);
start_nginx();
table(nginx => '127.0.0.1:8080');

done();
