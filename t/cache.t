#!/usr/bin/perl

# Caches: a page of one VM is never served under the name of another, whatever
# the key is and whatever a client asks for; with a good key pages are cached.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

# --- a guest that speaks FastCGI, uwsgi and SCGI: counts ---

sub guest {
    my $listener = IO::Socket::INET->new(Listen => 10, ReuseAddr => 1,
                                         LocalAddr => '0.0.0.0:7010') or die $!;
    my $pid = fork // die;
    return $pid if $pid;

    my $n = 0;
    while (my $s = $listener->accept) {
        sysread $s, my $request, 65536;
        my $text = sprintf "Status: 200 OK\r\n\r\n%d", ++$n;
        syswrite $s, $request !~ /^\x01/
            ? $text =~ s{^Status:}{HTTP/1.1}r =~ s{^HTTP/1.1}
                        {$request =~ /^\d/ ? 'Status:' : 'HTTP/1.1'}er
            : pack('CCnnCC', 1, 6, 1, length $text, 0, 0) . $text
              . pack('CCnnCC', 1, 6, 1, 0, 0, 0)
              . pack('CCnnCCNx4', 1, 3, 1, 8, 0, 0, 0);
        close $s;
    }
    POSIX::_exit(0);
}

my $guest = guest();

# --- nginx: a location for each key ---

my %bad = (
    default => '',
    variable => 'set $block vms;',
    proxy => 'proxy_cache_key $proxy_host$uri$is_args$args;',
    glued => 'proxy_cache_key $scheme$host$request_uri;',
    dashed => 'proxy_cache_key $host-$request_uri;',
    argument => 'proxy_cache_key $arg_x;',
    uri => 'proxy_cache_key $uri;',
    constant => 'proxy_cache_key "one for all";',
    header => 'proxy_cache_key $http_x_key;',
    another => 'proxy_cache_key ab.hatch.localhost|$host|$uri;',
    both => 'proxy_cache_key $host|$http_x_key;',
    bypass => 'proxy_cache_bypass $arg_fresh; proxy_no_cache $arg_fresh;',
);

my %good = (
    host => 'proxy_cache_key $scheme://$host$request_uri;',
    port => 'proxy_cache_key $scheme://$host:$server_port$uri;',
    raw => 'proxy_cache_key $http_host$uri;',
    last => 'proxy_cache_key $uri|$host;',
    vm => 'proxy_cache_key $hatch_vm_id$uri;',
    route => 'proxy_cache_key "$uri $hatch_route_id";',
    named => 'proxy_cache_key $host$uri; set $block vms;',
    limited => 'proxy_cache_key $host$uri; '
             . 'proxy_cache_bypass $arg_fresh; proxy_no_cache $arg_fresh;',
);

my $locations = '';
for (sort keys %bad, sort keys %good) {
    my $lines = $bad{$_} // $good{$_};
    my $to = $lines =~ /\$block/ ? '$block' : 'vms';
    $locations .= "location /$_/ { $lines proxy_cache pages; "
                . "proxy_pass http://$to; }\n";
}
for my $protocol ('fastcgi', 'uwsgi', 'scgi') {
    for (['bad', '$request_uri'], ['good', '$host$request_uri']) {
        $locations .= <<"EOF";
        location /$protocol/$_->[0]/ {
            ${protocol}_pass vms;
            ${protocol}_cache $protocol;
            ${protocol}_cache_key $_->[1];
            ${protocol}_cache_valid any 1m;
        }
EOF
    }
}

# the example of two stages, as the documentation has it
my ($example) = slurp("$top/docs/directives.md")
                =~ /^(    proxy_cache_path .*?)^\S/ms or die;
$example =~ s{/var/cache/nginx/hatch}{$dir/two}g;
$example =~ s{/run/nginx-hatch.sock}{$dir/inner.sock}g;
$example =~ s{listen 80;}{listen 127.0.0.1:9092;} or die;
$example =~ s{example\.com}{hatch.localhost}g;
$example =~ s{proxy_cache hatch;}{proxy_cache hatch;
              add_header X-Cache \$upstream_cache_status;} or die;

my @ids = map sprintf('vm_%016d', $_) =~ tr/0-9/a-j/r, 2, 3;

sub poke {
    system("$Test::Hatch::build/unit/zone-poke", "$dir/run/zone", 16384,
           map { ($ids[$_], $_[0], '127.0.0.1') } 0, 1) == 0 or die;
}

poke('running');
start_nginx(workers => 1, http => <<"EOF") or die;
    proxy_cache_path $dir/cache keys_zone=pages:1m;
    fastcgi_cache_path $dir/fastcgi_cache keys_zone=fastcgi:1m;
    uwsgi_cache_path $dir/uwsgi_cache keys_zone=uwsgi:1m;
    scgi_cache_path $dir/scgi_cache keys_zone=scgi:1m;
    proxy_cache_valid any 1m;
    server {
        listen 127.0.0.1:9091;
        hatch_route hatch.localhost;
        proxy_set_header Host \$host;
        add_header X-Cache \$upstream_cache_status;
        $locations
        location /stale/ {
            proxy_cache pages;
            proxy_cache_key \$host\$uri;
            proxy_cache_background_update on;
            proxy_pass http://vms;
        }
    }
    server {
        listen 127.0.0.1:7000;
        location /stale/ {
            add_header Cache-Control "max-age=1, stale-while-revalidate=60";
            return 200 "\$host \$request_id";
        }
        location / {
            add_header Cache-Control max-age=60;
            return 200 "\$host \$request_id";
        }
    }
    # what is in the cache from elsewhere
    server {
        listen 127.0.0.1:9093;
        location / {
            proxy_cache pages;
            proxy_cache_key http://vms\$request_uri;
            proxy_pass http://127.0.0.1:7000;
            proxy_set_header Host elsewhere;
        }
    }
$example
EOF

for my $name ('demo', 'ab') {
    my $id = $ids[$name eq 'ab'];
    create_route($id, @$_) or die for [$name, 7000], ["x-$name", 7010];
}

sub ask {
    my ($host, $path, %headers) = @_;
    my $r = http('127.0.0.1:9091', 'GET', $path, undef, %headers,
                 Host => "$host.hatch.localhost") or return ('none', '', '');
    return (split(/ /, $r->{body}, 2), $r->{headers}{'x-cache'} // '');
}

# --- keys that do not tell VMs apart ---

for my $key (sort keys %bad) {
    my %seen;
    for my $host ('demo', 'ab', 'demo', 'ab') {
        my ($from, $id, $cache) = ask($host, "/$key/page?x=1", 'X-Key' => 'k');
        is($from, "$host.hatch.localhost", "$key: a page of its own");
        is($cache, 'BYPASS', 'not looked for') if $key ne 'another'
                                                  && $key ne 'both';
        ok(!$seen{$id}++, 'never an old one') if $key ne 'another'
                                                 && $key ne 'both';
    }
}

# what is stored under such a key is not served
my $r = http('127.0.0.1:9093', 'GET', '/default/stored');
like($r->{body}, qr/^elsewhere /, 'it is stored');
is((ask('demo', '/default/stored'))[0], 'demo.hatch.localhost', 'not served');

# --- clients that put names of VMs into what the key is made of ---

my ($demo, $ab) = map "$_.hatch.localhost", 'demo', 'ab';
for my $key (sort keys %bad, sort keys %good) {
    for my $path ($demo, "$demo/", "x/$ab/$demo/y", "|$demo|", "p?$demo",
                  "p?x=$demo", "p?x=$demo/$ab", "p?x=%64emo.hatch.localhost",
                  "demo%2Ehatch%2Elocalhost/", uc $demo, "http://$demo:80/",
                  "$ids[0]/$ids[1]", "p?$ids[0]", "p|$ab|q?p", "p?q|$ab|p")
    {
        for my $host ('demo', 'ab', 'demo') {
            my ($from) = ask($host, "/$key/$path", 'X-Key' => "$demo|$ab|");
            is($from, "$host.hatch.localhost", "$key: $path of $host");
        }
    }
}

# --- keys that do ---

for my $key (sort keys %good) {
    my %id;
    for my $host ('demo', 'ab', 'demo', 'ab') {
        my ($from, $id, $cache) = ask($host, "/$key/page?x=1");
        is($from, "$host.hatch.localhost", "$key: a page of its own");
        is($cache, $id{$host} ? 'HIT' : 'MISS', 'cached');
        is($id, $id{$host} // $id, 'the same');
        $id{$host} = $id;
    }
    my ($from, $id, $cache) = ask('demo', "/$key/page?x=1&fresh=1");
    is($cache eq 'BYPASS' ? 1 : 0, $key eq 'limited' ? 1 : 0,
       'the directives of the location still count');
}

for my $key ('default', 'uri', 'proxy') {
    my @seen = map { (ask('demo', "/$key/$demo/"))[2] } 1, 2;
    is("@seen", 'BYPASS BYPASS', "$key: what a client has named is no name");
}

# nginx's own clones of a request: an update in the background
ask('demo', '/stale/page');
my ($stale) = wait_until('the page is stale', sub {
    my ($from, $id, $cache) = ask('demo', '/stale/page');
    return $cache eq 'STALE' && $id;
}, 5);
ok(wait_until('it is updated', sub {
    my ($from, $id, $cache) = ask('demo', '/stale/page');
    return $from eq $demo && $id ne $stale;
}, 5), 'and then updated in the background');

my @ids_seen = map { (ask('demo', "/host/own?u=$demo"))[1] } 1, 2;
is($ids_seen[0], $ids_seen[1], 'with its own name in its query, too');

# --- the other protocols ---

for my $protocol ('fastcgi', 'uwsgi', 'scgi') {
    my @bad = map { (ask($_, "/$protocol/bad/"))[0] } 'x-demo', 'x-ab',
                                                      'x-demo';
    my %different = map { $_ => 1 } @bad;
    is(scalar keys %different, 3, "$protocol: a bad key: @bad");
    my @good = map { (ask($_, "/$protocol/good/"))[0] } 'x-demo', 'x-ab',
                                                        'x-demo';
    is($good[2], $good[0], "a good one: @good");
    isnt($good[1], $good[0], 'tells them apart');
}

my @warnings = nginx_log() =~ /\[warn\] .*(hatch: answers whose cache key.*)/g;
is(scalar @warnings, 1, 'a worker says so once');

# --- two stages: a cached answer wakes nobody ---

sub two {
    my ($path) = @_;
    my $r = http("127.0.0.1:9092", "GET", $path, undef, Host => $demo)
        or return;
    return ($r->{headers}{'x-cache'} // '', $r->{status}, $r->{body});
}

sub requests {
    my ($vm) = grep $_->{id} eq $ids[0], @{ zone()->{vms} };
    return $vm->{requests};
}

my $requests = requests();
my @miss = two('/two');
is("@miss[0, 1]", 'MISS 200', 'the first is passed on');
is(requests(), $requests + 1, 'and counted');
poke('stopped');
my @hit = two('/two');
is("@hit", "HIT 200 $miss[2]", 'the second is not, though the VM is stopped');
is(requests(), $requests + 1, 'nor counted');

kill 'KILL', $guest;
done();
