#!/usr/bin/perl

# contract/hatch_api.yaml names every endpoint that there is, and no other.
# Whether answers are as it says is checked by every test that gets one.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $yaml = "$top/contract/hatch_api.yaml";
my %contract;
for (split /\n/, qx($top/t/lib/check-answers --operations $yaml)) {
    my ($method, $path, $who) = split;
    push @{ $contract{$who} }, "$method $path";
}
is(join(' ', sort keys %contract), 'agent module', 'two serve the API');

# the agent: the tables at the end of agent/api/api_*.c
my @agent;
for my $file (glob "$top/agent/api/api_*.c") {
    my $text = slurp($file);
    push @agent, "$1 $2" while $text =~ /\{ "([A-Z]+)", "(\/\S*)", API_/g;
}
cmp_ok(scalar @agent, '>=', 24, 'the agent has tables of endpoints');
is_deeply([sort @{ $contract{agent} }], [sort @agent],
          'the agent\'s endpoints');

# the module: by asking it.  What it has, it does not pass on.
start_nginx();
my @module;
for my $path ('/routes', '/routes/{id}', '/vms/{id}/routes',
              '/vms', '/vms/{id}', '/images', '/templates', '/nothing') {
    (my $real = $path) =~ s/\{id\}/rt_aaaaaaaaaaaaaaaa/;
    my $r = http('127.0.0.1:8080', 'PUT', $real);
    next if $r->{status} == 502;
    is($r->{status}, 405, "PUT $path");
    push @module, map "$_ $path", grep $_ ne 'HEAD',
                  split /, */, $r->{headers}{allow};
}
my $directives = slurp("$top/ngx_hatch_module/http/ngx_http_hatch_module.c");
for my $name (qw(healthz readyz metrics)) {
    push @module, "GET /$name" if $directives =~ /ngx_string\("hatch_$name"\)/;
}
is_deeply([sort @{ $contract{module} }], [sort @module],
          'the module\'s endpoints');

# the check itself
sub wrong {
    my (%answer) = @_;
    my $line = JSON::PP->new->canonical->encode({
        method => 'GET', path => '/healthz', status => 200, body => '{}',
        headers => { 'content-type' => 'application/json' }, %answer });
    write_file("$dir/one", "$line\n");
    return scalar qx($top/t/lib/check-answers $yaml < $dir/one 2>&1);
}

my $ok = '{"status":"ok","vm_count":0,"route_count":0}';
is(wrong(body => $ok), '', 'a right answer is right');
like(wrong(body => '{"status":"ok","vm_count":0}'), qr/'route_count' is a req/,
     'a missing field is found');
like(wrong(body => '{"status":"ok","vm_count":0,"route_count":0,"x":1}'),
     qr/'x' was unexpected/, 'one too many');
like(wrong(body => '{"status":"ok","vm_count":"0","route_count":0}'),
     qr/vm_count: '0' is not of type/, 'another type');
like(wrong(body => $ok, status => 418), qr/418 is not in the contract/,
     'another status');
like(wrong(body => $ok, path => '/unknown'), qr/path is not in the contract/,
     'another path');
like(wrong(body => $ok, method => 'PUT'), qr/method is not in the contract/,
     'another method');
like(wrong(body => $ok, headers => {}), qr/Content-Type/, 'another type');

allow_log(qr/agent\.sock failed/);
done();
