#!/usr/bin/perl

# Which Origin is the request's own: over TCP, TLS and HTTP/2, with a real
# agent, which must never see a request of a web page of another origin.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
       . "-keyout $dir/key -out $dir/cert 2>$dir/openssl") == 0
    or die slurp("$dir/openssl");

start_agent();
start_nginx(http => <<"EOF") or die nginx_log();
    server {
        listen 127.0.0.1:8443 ssl http2;
        listen 127.0.0.1:8081 http2;
        server_name api.example;
        ssl_certificate $dir/cert;
        ssl_certificate_key $dir/key;
        location / {
            hatch_api;
            proxy_pass http://unix:$dir/run/agent.sock:;
        }
    }
    server {
        listen 127.0.0.1:8082;
        server_name a-b_c.example;
        location / { hatch_api; }
    }
    log_format copy "\$uri \$status";
    server {
        listen 127.0.0.1:8083;
        access_log $dir/logs/copy.access.log copy;
        log_subrequest on;
        location = /vms {
            mirror /copy;
            proxy_pass http://127.0.0.1:8084;
        }
        location = /copy {
            internal;
            hatch_api;
            proxy_pass http://unix:$dir/run/agent.sock:/vms;
        }
    }
    server {
        listen 127.0.0.1:8084;
        location / { return 200 "other\n"; }
    }
EOF

my $must = 'must be the request\'s own scheme, host and port",'
           . '"code":"origin_forbidden"}';

# --- the agent does not see it ---

# the changes that the agent was asked for
sub asked { return scalar grep /\b(?:POST|PATCH|DELETE) \//,
            split /\n/, agent_log() }

my $vm = create_vm({ name => 'one' })->{id};
my $list = http('127.0.0.1:8080', 'GET', '/vms')->{body};
my $asked = asked();
cmp_ok($asked, '>', 0, 'the agent logs what it is asked for');

for (['POST', '/vms', '{"name":"two"}'], ['PATCH', "/vms/$vm", '{"name":"x"}'],
     ['DELETE', "/vms/$vm"], ['POST', "/vms/$vm/stop", '{"force":true}'],
     ['POST', '/images', '{}'], ['POST', '/templates', '{"name":"t"}'],
     ['POST', "/vms/$vm/routes", '{"target_port":80}'],
     ['DELETE', '/templates/tpl_x'], ['DELETE', '/routes/rt_x'],
     ['PUT', '/routes'], ['POST', '/nothing'])
{
    my ($method, $path, $body) = @$_;
    for my $origin ('http://evil.example', 'null') {
        # a form of a page can send no other type
        my $r = http('127.0.0.1:8080', $method, $path, $body,
                     Origin => $origin, 'Content-Type' => 'text/plain');
        is("$r->{status} $r->{body}",
           "403 {\"error\":\"the header Origin is \\\"$origin\\\", it $must",
           "$method $path from $origin");
        is($r->{headers}{'cache-control'}, 'no-store', 'not to be stored');
        note_answer($method, $path, undef, $r);
    }
}

# a copy of a request, by "mirror"
is(http('127.0.0.1:8083', 'POST', '/vms', '{}', Origin => 'null')->{body},
   "other\n", 'another server may take it');
wait_until('the copy has ended', sub {
    slurp("$dir/logs/copy.access.log") =~ m{^/copy}m
});
like(slurp("$dir/logs/copy.access.log"), qr{^/copy 403$}m,
     'its copy for the API is refused');

is(http('127.0.0.1:8080', 'GET', '/vms')->{body}, $list,
   'no VM came, changed or went');
is(http('127.0.0.1:8080', 'GET', '/routes')->{body}, '[]', 'nor a route');
is(asked(), $asked, 'the agent has seen none of it');
is(http('127.0.0.1:8080', 'GET', '/vms', undef,
        Origin => 'http://evil.example')->{status}, 200, 'reading is allowed');
is(http('127.0.0.1:8080', 'POST', "/vms/$vm/stop", '{"force":true}',
        Host => 'localhost:8080', Origin => 'http://localhost:8080')->{status},
   415, 'nor a body that does not say what it is');
is(asked(), $asked, 'which the agent has not seen either');
is(http('127.0.0.1:8080', 'POST', "/vms/$vm/stop", '{"force":true}',
        Host => 'localhost:8080', Origin => 'http://localhost:8080',
        'Content-Type' => 'application/json; charset=utf-8')->{status},
   200, 'what is of the own page reaches the agent');
cmp_ok(asked(), '>', $asked, 'which has seen that');

# --- the matrix ---

sub post {
    my ($host, @origins) = @_;
    return request('127.0.0.1:8082', "POST /nothing HTTP/1.1\r\nHost: $host\r\n"
                   . join('', map "Origin: $_\r\n", @origins)
                   . "Content-Type: application/json\r\n"
                   . "Connection: close\r\nContent-Length: 1\r\n\r\nx");
}

for (['localhost', 'http://localhost'], ['localhost', 'http://localhost:80'],
     ['localhost:80', 'http://localhost'], ['localhost', 'HTTP://LocalHost'],
     ['LOCALHOST:8080', 'http://localhost:8080'],
     ['localhost', 'http://localhost', 'http://localhost:80'],
     ['[::1]:8080', 'http://[::1]:8080'], ['[::1]', 'http://[::1]:80'],
     ['[fe80::A:127.0.0.1]', 'http://[FE80::a:127.0.0.1]:80'],
     ['a-b_c.example:65535', 'http://a-b_c.example:65535'],
     ['127.0.0.1', '  http://127.0.0.1  '], ['localhost'])
{
    is(post(@$_)->{status}, 404, "own: @$_");
}

for (
    ['http://evil.example'], ['http://localhost'], ['http://localhost:80'],
    ['http://localhost:8081'], ['https://localhost:8080'],
    ['ftp://localhost:8080'], ['null'], [''], ['localhost:8080'],
    ['//localhost:8080'], ['http://'], ['http://localhost:8080/'],
    ['http://localhost:8080/x'], ['http://localhost:8080?'],
    ['http://localhost:8080#'], ['http://me@localhost:8080'],
    ['http://me:x@localhost:8080'], ['http://localhost:8080@evil.example'],
    ['http://localhost:8080.evil.example'], ['http://localhost:08080'],
    ['http://localhost:+8080'], ['http://localhost:'],
    ['http://localhost:8080:8080'], ['http://localhost:' . '8080' x 9],
    ['http://localhost:73616'], ['http://localhost:0'],
    ['http://localhost.:8080'], ['http://localhost:8080, http://evil.example'],
    ['http://localhost:8080 http://evil.example'], ["http://localhost:8080\t"],
    ['http: //localhost:8080'], ['http:localhost:8080'],
    ['http:///localhost:8080'], ['http://localhos:8080'],
    ['http://xlocalhost:8080'], ['http://[localhost]:8080'],
    ['http://127.0.0.1:8080'], ['http://%6cocalhost:8080'], ['*'],
    ['http://localhost:8080', 'http://evil.example'],
    ['http://evil.example', 'http://localhost:8080'],
    ['http://localhost:8080', 'null'], ['http://localhost:8080', ''])
{
    my $r = post('localhost:8080', @$_);
    is("$r->{status} " . json($r->{body})->{code}, '403 origin_forbidden',
       'foreign: ' . join ' and ', @$_);
}

# a Host that no Origin can be; some of them nginx itself refuses from 1.29 on
for (['me@localhost', 'http://me@localhost'], ['[::1]x', 'http://[::1]x'],
     ["caf\xc3\xa9", "http://caf\xc3\xa9"],
     ['localhost:0', 'http://localhost:0'],
     ['localhost:65536', 'http://localhost:65536'],
     ['localhost:', 'http://localhost:'])
{
    like(post(@$_)->{body}, qr/origin_forbidden|>400 Bad Request</,
         "no origin: $$_[0]");
}

for ('POST /', 'POST http://localhost/', 'DELETE /routes/x') {
    like(request('127.0.0.1:8082', "$_ HTTP/1.0\r\nOrigin: http://localhost"
                 . "\r\n\r\n")->{body},
         qr/origin_forbidden/, "HTTP/1.0 without Host: $_");
}

# what it says: the value where it is printable and not long
my $long = 'http://' . 'a' x 249;
for (['http://a"b\\c', 'is \\"http://a\\"b\\\\c\\", it '],
     ["http://\xff\xfe", ''], ["http://\x01", ''], ["http://a\x7f", ''],
     [$long, "is \\\"$long\\\", it "], ["${long}a", ''],
     ['', 'is \\"\\", it '])
{
    is(post('localhost', $$_[0])->{body},
       "{\"error\":\"the header Origin $$_[1]$must", "the answer: $$_[1]");
}

# --- TLS and HTTP/2 ---

sub curl {
    my ($url, $options) = @_;
    return scalar qx(curl -sk --max-time 20 -o $dir/answer -X PUT \\
                     -w '%{http_version} %{http_code}' $options $url);
}

for my $http ('--http1.1', '--http2') {
    my $version = $http eq '--http2' ? 2 : '1.1';
    my $url = 'https://127.0.0.1:8443/vms';
    for (['https://127.0.0.1:8443', 405], ['HTTPS://127.0.0.1:8443', 405],
         ['http://127.0.0.1:8443', 403], ['https://127.0.0.1', 403],
         ['https://evil.example:8443', 403], ['null', 403])
    {
        is(curl($url, "$http -H 'Origin: $$_[0]'"), "$version $$_[1]",
           "$http: $$_[0]");
    }
    is(curl($url, "$http -H 'Host: api.example' -H "
                  . "'Origin: https://api.example:443'"), "$version 405",
       "$http: the usual port");
    is(curl($url, "$http -H 'Origin: https://127.0.0.1:8443' "
                  . '-H "Origin: null"'), "$version 403", "$http: two");
    is(curl($url, $http), "$version 405", "$http: none");
}

my $plain = '--http2-prior-knowledge';
my $url = 'http://127.0.0.1:8081/vms';
is(curl($url, "$plain -H 'Origin: http://127.0.0.1:8081'"), '2 405',
   'HTTP/2 without TLS is http');
is(curl($url, "$plain -H 'Origin: https://127.0.0.1:8081'"), '2 403',
   'and not https');
is(json(slurp("$dir/answer"))->{code}, 'origin_forbidden', 'in JSON');

done();
