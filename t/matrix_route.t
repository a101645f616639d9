#!/usr/bin/perl

# hatch_route wherever a configuration may have it: the right guest answers,
# also one that has to be woken, errors are Hatch's own or the user's, and what
# is static stays so.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;

mkdir "$dir/www";
chmod 0755, "$dir/www";
mkdir "$dir/www/$_" for qw(.well-known files);
mkdir "$dir/store";
chmod 01777, "$dir/store";
write_file("$dir/www/$_", "file $_") for qw(.well-known/token files/one
                                            404.html);
write_file("$dir/www/page.html", '<b><!--#include virtual="/vm/1" -->, '
           . '<!--#include virtual="/vm/2" --></b>');

my $whole = 'x' x 1000 . 'y' x 1000 . 'z' x 500;

# That a file is there and what it says; VM stands for the id of A. nginx stores
# an answer after its client had it all.
sub stored {
    my ($path, $expected) = @_;
    return "stored $path" => sub {
        my ($port, $name) = @_;
        my $question = "GET none $path" =~ s/\bVM\b/$vm{a}/r;
        wait_until("$name: it is there",
                   sub { ask($port, $question)->{status} == 200 });
        check($name, ask($port, $question), $expected);
    };
}

matrix({ http => 'limit_req_zone $server_port zone=slow:1m rate=1r/m;
                  limit_req_zone $server_port zone=quick:1m rate=20r/s;' },

    # --- where it stands ---

    'server' => [q{ ROUTE location / { PASS } },
        'GET a /x' => '200 A GET /x',
        'GET b /x' => '200 B GET /x',
        'HEAD a /x' => '200',
        'GET A.Hatch.LocalHost. /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found',
        'GET a.b.hatch.localhost /x' => '404 unknown_host',
        'GET localhost /x' => '404 unknown_host',
        'GET refused /x' => '502 guest_refused',
        'GET asleep /x' => '503 vm_not_running',
        'GET a /missing' => "404 the guest's own",
        'GET a /broken' => "502 the guest's own"],

    'location' => [q{
        location / { ROUTE PASS }
        location /own { return 200 own; } },
        'GET a /x' => '200 A GET /x',
        'GET a /own' => '200 own',
        'GET none /x' => '404 route_not_found'],

    'nested location' => [q{
        location /a { ROUTE PASS location /a/b { PASS } }
        location /c { location /c/d { ROUTE PASS } return 200 own; } },
        'GET a /a/b' => '200 A GET /a/b',
        'GET none /a/b' => '404 route_not_found',
        'GET a /c/d' => '200 A GET /c/d',
        'GET a /c/x' => '200 own'],

    'regular expression' => [q{ location ~ ^/(app|x) { ROUTE PASS } },
        'GET a /app/1' => '200 A GET /app/1',
        'GET none /app/1' => '404 route_not_found'],

    'if' => [q{
        location / { ROUTE PASS if ($arg_q) { set $y 1; } }
        location /some { ROUTE proxy_pass http://plain;
                         if ($arg_q) { proxy_pass http://vms; } } },
        'GET a /x?q=1' => '200 A GET /x?q=1',
        'GET none /x?q=1' => '404 route_not_found',
        'GET refused /x?q=1' => '502 guest_refused',
        'GET a /some?q=1' => '200 A GET /some?q=1',
        'GET a /some' => '200 plain GET /some'],

    'limit_except' => [q{
        location / { ROUTE PASS limit_except GET { deny all; } } },
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found',
        'POST a /x = body' => qr/^403 /],

    'named location' => [q{
        location / { error_page 418 = @vm; return 418; }
        location @vm { ROUTE PASS } },
        'GET a /x' => '200 A GET /x',
        'POST a /x = body' => ['200 A POST /x', 'X-Body' => 'body'],
        'GET none /x' => '404 route_not_found',
        'GET refused /x' => '502 guest_refused'],

    'off' => [q{ ROUTE
        location / { PASS }
        location /out { hatch_route off; proxy_pass http://plain;
                        location /out/in { ROUTE PASS } }
        location /OFF { hatch_route OFF; proxy_pass http://plain; } },
        'GET a /x' => '200 A GET /x',
        'GET none /out' => '200 plain GET /out',
        'GET none /OFF' => '200 plain GET /OFF',
        'GET a /out/in' => '200 A GET /out/in',
        'GET none /out/in' => '404 route_not_found'],

    'off for a server' => [q{ hatch_route off;
        location / { proxy_pass http://plain; }
        location /in { ROUTE PASS } },
        'GET none /x' => '200 plain GET /x',
        'GET a /in' => '200 A GET /in'],

    # --- a server's, and what stays the user's ---

    'static locations of a server' => [q{ ROUTE hatch_wake_timeout 1s;
        location / { PASS }
        location ^~ /.well-known/ { root DIR/www; }
        location /files/ { root DIR/www; try_files $uri =404; }
        location = /alias { alias DIR/www/files/one; }
        location = /own { return 200 own; } },
        'GET a /x' => '200 A GET /x',
        'GET a /.well-known/token' => '200 file .well-known/token',
        'GET none /.well-known/token' => '200 file .well-known/token',
        'GET localhost /.well-known/token' => '200 file .well-known/token',
        'GET never /.well-known/token' => '200 file .well-known/token',
        'GET a /.well-known/no' => qr/^404 <html>/,
        'GET none /files/one' => '200 file files/one',
        'GET none /files/no' => qr/^404 <html>/,
        'GET none /alias' => '200 file files/one',
        'GET none /own' => '200 own'],

    'other handlers below a server\'s' => [q{ ROUTE
        location / { PASS }
        location /f { fastcgi_pass 127.0.0.1:1; }
        location /p { proxy_pass http://plain; } },
        'GET none /f' => '404 route_not_found',
        'GET none /p' => '404 route_not_found',
        'GET a /p' => '200 plain GET /p'],

    'an explicit one before files' => [q{
        location / { ROUTE root DIR/www; } },
        'GET a /files/one' => '200 file files/one',
        'GET none /files/one' => '404 route_not_found',
        'GET asleep /files/one' => '503 vm_not_running'],

    'error pages of a server' => [q{ ROUTE
        error_page 404 /404.html;
        error_page 502 503 /sorry;
        location = /404.html { root DIR/www; }
        location = /sorry { return 200 sorry; }
        location / { PASS } },
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 file 404.html',
        'GET refused /x' => '502 sorry',
        'GET asleep /x' => '503 sorry',
        'GET a /missing' => "404 the guest's own"],

    'try_files' => [q{
        location / { root DIR/www; try_files $uri @vm; }
        location @vm { ROUTE PASS } },
        'GET a /files/one' => '200 file files/one',
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found'],

    'try_files below a server\'s' => [q{ ROUTE
        location / { root DIR/www; try_files $uri @vm; }
        location @vm { PASS } },
        'GET a /files/one' => '200 file files/one',
        'GET none /files/one' => '200 file files/one',
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found'],

    # --- error_page ---

    'error_page' => [q{
        error_page 404 /lost;
        error_page 502 503 =200 /asleep;
        location / { ROUTE PASS }
        location = /lost { return 200 lost; }
        location = /asleep { return 200 "asleep $hatch_vm_id"; } },
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 lost',
        'GET refused /x' => qr/^200 asleep vm_\w+$/,
        'GET asleep /x' => qr/^200 asleep vm_\w+$/],

    'error_page to a text' => [q{
        location / { ROUTE PASS error_page 404 502 503 /sorry.html; }
        location = /sorry.html { ROUTE return 502 "<b>sorry</b>"; } },
        'GET none /x' => '404 <b>sorry</b>',
        'GET refused /x' => '502 <b>sorry</b>',
        'GET asleep /x' => '503 <b>sorry</b>'],

    'error_page, named' => [q{
        location / { ROUTE PASS error_page 404 502 503 = @sorry; }
        location @sorry { return 200 sorry; } },
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '200 sorry',
        'GET refused /x' => '200 sorry',
        'GET asleep /x' => '200 sorry'],

    # the status stays that of the error, as with any proxy
    'error_page to a guest' => [q{
        location / { proxy_pass http://plain/missing; proxy_intercept_errors on;
                     error_page 404 /vm; }
        location = /vm { ROUTE PASS } },
        'GET a /x' => '404 A GET /vm',
        'GET none /x' => '404 route_not_found'],

    'recursive_error_pages' => [q{
        recursive_error_pages on;
        error_page 404 = @vm;
        location / { proxy_pass http://plain/missing;
                     proxy_intercept_errors on; }
        location @vm { ROUTE PASS error_page 404 502 = @last; }
        location @last { return 200 last; } },
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '200 last',
        'GET refused /x' => '200 last'],

    'recursive_error_pages, guest to guest' => [q{
        recursive_error_pages on;
        location / { ROUTE PASS proxy_intercept_errors on;
                     error_page 418 = /second; }
        location = /second { ROUTE proxy_pass http://vms/missing;
                             proxy_intercept_errors on;
                             error_page 404 = /third; }
        location = /third { ROUTE PASS } },
        'GET a /teapot' => '200 A GET /third'],

    'recursive_error_pages that go round' => [q{
        recursive_error_pages on;
        location / { ROUTE PASS error_page 404 /again; } },
        'GET none /x' => qr/^(?:404|500) /],

    # --- redirects inside of nginx ---

    'rewrite' => [q{
        location /old { rewrite ^/old(.*) /new$1 last; }
        location /new { ROUTE PASS }
        location /here { ROUTE rewrite ^ /there break; PASS } },
        'GET a /old/1' => '200 A GET /new/1',
        'GET a /here' => '200 A GET /there',
        'GET none /old/1' => '404 route_not_found'],

    'a server\'s rewrite' => [q{
        ROUTE rewrite ^/old(.*) /new$1 last;
        location / { PASS } },
        'GET a /old/1' => '200 A GET /new/1'],

    'return' => [q{
        location / { ROUTE if ($arg_q) { return 204; } PASS }
        location = /own { ROUTE return 200 own; } },
        'GET a /x' => '200 A GET /x',
        'GET a /x?q=1' => '204',
        'GET none /own' => '200 own'],

    # --- subrequests ---

    'auth_request' => [q{
        location / { auth_request /auth; ROUTE PASS }
        location /closed { auth_request /no; ROUTE PASS }
        location = /auth { internal; return 204; }
        location = /no { internal; return 403; } },
        'GET a /x' => '200 A GET /x',
        'POST a /x = body' => ['200 A POST /x', 'X-Body' => 'body'],
        'GET none /x' => '404 route_not_found',
        'GET a /closed' => qr/^403 /],

    'auth_request by a guest' => [q{
        location / { auth_request /auth; ROUTE PASS }
        location /closed { auth_request /no; ROUTE PASS }
        location /other { auth_request /auth; proxy_pass http://plain; }
        location /lost { auth_request /unknown; ROUTE PASS }
        location = /auth { internal; ROUTE PASS
                           proxy_pass_request_body off;
                           proxy_set_header Content-Length ""; }
        location = /no { internal; ROUTE proxy_pass http://vms; }
        location = /unknown { internal; hatch_route other.localhost;
                              proxy_pass http://vms; } },
        'GET a /x' => '200 A GET /x',
        'POST a /x = body' => ['200 A POST /x', 'X-Body' => 'body'],
        'GET a /closed' => qr/^403 /,
        'GET a /other' => '200 plain GET /other',
        'GET a /lost' => qr/^500 /],

    'mirror' => [q{
        location / { mirror /mirror; ROUTE PASS }
        location /plain { mirror /mirror; proxy_pass http://plain; }
        location /other { mirror /copy; ROUTE PASS }
        location = /mirror { internal; ROUTE
                             proxy_pass http://vms/mirrored$request_uri; }
        location = /copy { internal;
                           proxy_pass http://plain/copied$request_uri; } },
        'GET a /x' => '200 A GET /x',
        'POST a /x2 = body' => ['200 A POST /x2', 'X-Body' => 'body'],
        'GET a /plain' => '200 plain GET /plain',
        'GET a /other' => '200 A GET /other',
        'GET none /x' => '404 route_not_found',
        'all copies have come' => sub {
            my ($port, $name) = @_;
            ok(wait_until($name, sub {
                my $log = guest_log();
                $log =~ m{^A GET /mirrored/x$}m
                && $log =~ m{^A POST /mirrored/x2$}m
                && $log =~ m{^A GET /mirrored/plain$}m
                && $log =~ m{^plain GET /copied/other$}m
            }, 5), $name);
        }],

    'SSI of a routed location' => [q{
        location = /page.html { root DIR/www; ssi on; }
        location /vm { ROUTE PASS } },
        'GET a /page.html' => '200 <b>A GET /vm/1, A GET /vm/2</b>',
        'GET b /page.html' => '200 <b>B GET /vm/1, B GET /vm/2</b>',
        'GET none /page.html' =>
            qr/^200 <b>.*route_not_found.*, .*route_not_found.*<\/b>$/],

    'SSI of a guest\'s page' => [q{
        location / { ROUTE PASS ssi on; }
        location = /own { return 200 own; } },
        'GET a /page?of=/part' => '200 <b>A A GET /part</b>',
        'GET a /page?of=/own' => '200 <b>A own</b>'],

    'slice' => [q{
        location / { ROUTE PASS slice 1000;
                     proxy_set_header Range $slice_range;
                     proxy_cache cache; proxy_cache_valid 200 206 1m;
                     proxy_cache_key "$host $uri $slice_range"; } },
        'GET a /file' => "200 $whole",
        'GET a /file?again' => "200 $whole"],

    'slice without a cache' => [q{
        location / { ROUTE PASS slice 1000;
                     proxy_set_header Range $slice_range; } },
        'GET a /file' => "200 $whole",
        'GET none /file' => '404 route_not_found',
        'it is woken' => sub {
            my ($port, $name) = @_;
            sleep_now();
            check($name, ask($port, 'GET a /file'), "200 $whole");
        }],

    'post_action' => [q{
        location / { ROUTE PASS post_action /after; }
        location = /after { internal; ROUTE
                            proxy_pass http://vms/posted$request_uri; } },
        'GET a /x' => '200 A GET /x',
        'it came' => sub {
            my ($port, $name) = @_;
            ok(wait_until($name, sub {
                guest_log() =~ m{^A GET /posted/x$}m
            }, 5), $name);
        }],

    # --- caches ---

    # A worker stores an answer after its client had it all; the lock lets the
    # next request, which another worker may get, wait for that.
    'proxy_cache with nginx\'s own key' => [q{
        location / { ROUTE PASS proxy_cache cache; proxy_cache_valid 1m; } },
        'GET a /cached' => '200 A GET /cached',
        'GET b /cached' => '200 B GET /cached',
        'GET none /cached' => '404 route_not_found'],

    'proxy_cache with the host' => [{ held => 0 }, q{
        location / { ROUTE PASS proxy_cache cache; proxy_cache_valid 1m;
                     proxy_cache_key "$host $request_uri"; proxy_cache_lock on;
                     add_header X-Cache $upstream_cache_status; } },
        'GET a /h' => ['200 A GET /h', 'X-Cache' => 'MISS'],
        'GET a /h?' => ['200 A GET /h?', 'X-Cache' => 'MISS'],
        'GET a /h' => ['200 A GET /h', 'X-Cache' => 'HIT'],
        'GET b /h' => ['200 B GET /h', 'X-Cache' => 'MISS']],

    'proxy_cache with the VM' => [{ held => 0 }, q{
        location / { ROUTE PASS proxy_cache cache; proxy_cache_valid 1m;
                     proxy_cache_key "$hatch_vm_id $request_uri"; proxy_cache_lock on;
                     add_header X-Cache $upstream_cache_status; } },
        'GET a /v' => ['200 A GET /v', 'X-Cache' => 'MISS'],
        'GET a /v' => ['200 A GET /v', 'X-Cache' => 'HIT'],
        'GET b /v' => ['200 B GET /v', 'X-Cache' => 'MISS']],

    'a client that writes a host into its path' => [q{
        location / { ROUTE PASS proxy_cache cache; proxy_cache_valid 1m;
                     proxy_cache_key $request_uri; } },
        'GET a /part?of=b.hatch.localhost' =>
            '200 A GET /part?of=b.hatch.localhost',
        'GET b /part?of=b.hatch.localhost' =>
            '200 B GET /part?of=b.hatch.localhost',
        'GET a /part?of=b.hatch.localhost' =>
            '200 A GET /part?of=b.hatch.localhost'],

    'a hit in two stages' => [{ held => 0, http => q{
        server { listen unix:DIR/inner.sock; location / { ROUTE PASS } } } }, q{
        location / { proxy_pass http://unix:DIR/inner.sock:;
                     proxy_set_header Host $host;
                     proxy_cache cache; proxy_cache_valid 1m;
                     proxy_cache_key "two $host $request_uri"; } },
        'GET a /two' => '200 A GET /two',
        'GET b /two' => '200 B GET /two',
        'it wakes nobody' => sub {
            my ($port, $name) = @_;
            sleep_now();
            check($name, ask($port, 'GET a /two'), '200 A GET /two');
            is(Test::Hatch::state($vm{a}), 'paused', "$name: it sleeps on");
            check($name, ask($port, 'GET a /three'), '200 A GET /three');
        }],

    # --- stored files, which are everybody's who finds them ---

    'proxy_store in one directory for all' => [q{
        location /img/ { root DIR/store; log_not_found off;
                         error_page 404 = /fetch$uri; }
        location /fetch/ { internal; ROUTE proxy_pass http://vms/;
                           proxy_set_header Host $host;
                           alias DIR/store/; proxy_store on; } },
        'GET a /img/x' => '200 A GET /img/x',
        'GET b /img/x' => '200 B GET /img/x',
        'GET none /img/x' => '404 route_not_found',
        'GET a /img/b.hatch.localhost' => '200 A GET /img/b.hatch.localhost',
        'GET a /img/a.hatch.localhost' => '200 A GET /img/a.hatch.localhost',
        'GET b /img/a.hatch.localhost' => '200 B GET /img/a.hatch.localhost'],

    'proxy_store with a path' => [q{
        location / { ROUTE PASS proxy_store DIR/store/path$uri; }
        location /stored/ { alias DIR/store/path/; log_not_found off; } },
        'GET a /x' => '200 A GET /x',
        'GET a /a.hatch.localhost/x' => '200 A GET /a.hatch.localhost/x',
        'GET a /stored/x' => qr/^404 /,
        'GET b /stored/a.hatch.localhost/x' => qr/^404 /],

    'proxy_store with the host' => [{ held => 0 }, q{
        location / { ROUTE PASS root DIR/store/$host; proxy_store on; }
        location /vm/ { ROUTE PASS proxy_store DIR/store/$hatch_vm_id$uri; }
        location /stored/ { alias DIR/store/; log_not_found off; } },
        'GET a /x' => '200 A GET /x',
        'GET b /x' => '200 B GET /x',
        stored('/stored/a.hatch.localhost/x', '200 A GET /x'),
        stored('/stored/b.hatch.localhost/x', '200 B GET /x'),
        'GET b /b.hatch.localhost/y' => '200 B GET /b.hatch.localhost/y',
        'GET b /a.hatch.localhost/y' => '200 B GET /a.hatch.localhost/y',
        'GET b /stored/b.hatch.localhost/a.hatch.localhost/y' => qr/^404 /,
        'GET a /vm/x' => '200 A GET /vm/x',
        stored('/stored/VM/vm/x', '200 A GET /vm/x')],

    # that of docs/directives.md
    'proxy_store behind try_files' => [{ held => 0 }, q{
        location / { root DIR/store/doc/$host; try_files $uri @vm; }
        location @vm { ROUTE PASS root DIR/store/doc/$host; proxy_store on; } },
        'GET a /x' => '200 A GET /x',
        'GET b /x' => '200 B GET /x',
        'a file wakes nobody' => sub {
            my ($port, $name) = @_;
            wait_until("$name: it is stored", sub {
                -f "$dir/store/doc/a.hatch.localhost/x"
            });
            sleep_now();
            check($name, ask($port, 'GET a /x'), '200 A GET /x');
            is(Test::Hatch::state($vm{a}), 'paused', "$name: it sleeps on");
            check($name, ask($port, 'GET a /y'), '200 A GET /y');
        }],

    # --- limits, buffering, versions ---

    'limit_req' => [{ held => 0 }, q{
        location / { limit_req zone=slow; ROUTE PASS } },
        'GET a /x' => '200 A GET /x',
        'GET a /y' => qr/^503 (?!A)/],

    'limit_req with a delay' => [q{
        location / { limit_req zone=quick burst=9; ROUTE PASS } },
        'GET a /x' => '200 A GET /x',
        'GET a /y' => '200 A GET /y',
        'GET none /x' => '404 route_not_found'],

    'proxy_request_buffering off' => [q{
        location / { ROUTE PASS proxy_request_buffering off; } },
        'POST a /x = some body' => ['200 A POST /x', 'X-Body' => 'some body'],
        'GET a /x' => '200 A GET /x',
        'POST none /x = some body' => '404 route_not_found',
        'POST refused /x = some body' => '502 guest_refused'],

    'proxy_buffering off' => [q{
        location / { ROUTE PASS proxy_buffering off; } },
        'GET a /x' => '200 A GET /x',
        'GET a /file' => "200 $whole"],

    'HTTP/2' => [{ listen => 'http2', h2 => 1 }, q{
        location / { ROUTE PASS } },
        'GET a /x' => '200 A GET /x',
        'HEAD a /x' => '200',
        'POST a /x = body' => ['200 A POST /x', 'X-Body' => 'body'],
        'GET none /x' => '404 route_not_found',
        'GET refused /x' => '502 guest_refused',
        'GET asleep /x' => '503 vm_not_running'],

    'HTTP/2, nothing buffered' => [{ listen => 'http2', h2 => 1 }, q{
        location / { ROUTE PASS proxy_request_buffering off; } },
        'POST a /x = body' => ['200 A POST /x', 'X-Body' => 'body'],
        'GET none /x' => '404 route_not_found'],

    'access control' => [q{
        location / { deny all; ROUTE PASS }
        location /any { satisfy any; allow 127.0.0.1; deny all;
                        auth_basic x; auth_basic_user_file DIR/keys;
                        ROUTE PASS } },
        'GET a /x' => qr/^403 /,
        'GET none /x' => qr/^403 /,
        'GET a /any' => '200 A GET /any'],
);

# --- a request is one, however often it is redirected ---

sub counted {
    my ($row, $question, $expected, $then) = @_;
    my $before = requests_total();
    check("$row: $question", ask(row_port($row), $question), $expected);
    wait_until("$row: the rest of it", $then) if $then;
    is(requests_total() - $before, 1, "$row: counted once");
}
counted('location', 'GET a /x', '200 A GET /x');
counted('rewrite', 'GET a /old/1', '200 A GET /new/1');
counted('named location', 'GET a /x', '200 A GET /x');
counted('recursive_error_pages, guest to guest', 'GET a /teapot',
        '200 A GET /third');
counted('error_page', 'GET refused /x', qr/^200 asleep vm_/);
counted('post_action', 'GET a /last', '200 A GET /last',
        sub { guest_log() =~ m{^A GET /posted/last$}m });
sleep_now();
counted('recursive_error_pages, guest to guest', 'GET a /teapot',
        '200 A GET /third');

allow_log(qr/connect\(\) failed \(111: Connection refused\)/,
          qr/access forbidden by rule/, qr/limiting requests/,
          qr/auth request unexpected status: 404/,
          qr/rewrite or internal redirection cycle/,
          qr{/(?:no|again)" failed \(2: No such file});
done();
