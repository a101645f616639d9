#!/usr/bin/perl

# What the reports of sanitizers and of valgrind leave out, nginx without the
# module gives, too: here is one, and each line that they are told to suppress
# must match something.  `make test-module-asan` and `test-valgrind` run this.
#
#   WATCHED    asan or valgrind

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $kind = $ENV{WATCHED} // die "WATCHED: asan or valgrind?\n";
my $lib = "$top/t/lib";

mkdir "$dir/reports";
chmod 01777, "$dir/reports";
$ENV{HATCH_REPORTS} = "$dir/reports";

# in the log, too, where undefined behaviour is reported
sub reports { return join '', map slurp($_), glob "$dir/reports/* $dir/logs/*" }

my $temp = join "\n    ", map "${_}_temp_path $dir/$_;",
           qw(client_body proxy fastcgi uwsgi scgi);
my $conf = <<"END";
user www-data;
env HOME;
worker_processes 1;
pid $dir/nginx.pid;
error_log $dir/logs/error.log;
events { worker_connections 64; }
http {
    access_log off;
    $temp
    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 http2;
        location ~ ^/a { return 200 "a\\n"; }
        location / { rewrite ^/b /a last; }
    }
}
END

# a start, requests, an end; and a configuration that it refuses
sub live {
    my ($rounds) = @_;

    write_file("$dir/wrong.conf", "nothing;\n");
    isnt(system("$Test::Hatch::nginx -t -c $dir/wrong.conf -e $dir/logs/t.log "
                . "> $dir/logs/t.out 2>&1"), 0, 'it refuses nonsense');
    start_nginx(conf => $conf) or die slurp("$dir/logs/nginx.out");
    is(http('127.0.0.1:8080', 'GET', '/b')->{status}, 200, 'it serves');
    like(qx(nghttp -nv http://127.0.0.1:8081/a 2>&1), qr/:status: 200/,
         'and HTTP/2');

    # the second goes on in another buffer, at a lower address or a higher one
    for (1 .. $rounds) {
        my $get = 'GET /a' . 'x' x 6000 . " HTTP/1.1\r\nHost: a\r\n";
        request('127.0.0.1:8080', "$get\r\n${get}Connection: close\r\n\r\n");
        last if reports() =~ /pointer index expression/;
    }

    ok(stop_nginx('TERM'), 'it ends');
    allow_log(qr/unknown directive "nothing"/);
}

if ($kind eq 'valgrind') {
    $ENV{HATCH_VALGRIND_OPTIONS} = '-v --show-leak-kinds=all';
    live(1);

    my $reports = reports();

    for my $name (slurp("$lib/nginx.supp") =~ /^\{\n\s+(.+)\n/mg) {
        like($reports, qr/used_suppression:\s+\d+ \Q$name\E /, $name);
    }

    unlike($reports, qr/are definitely lost/, 'and there is nothing else');

} else {
    my %says = (
        'nonnull-attribute' => 'null pointer passed',
        'alignment' => 'misaligned address',
        'pointer-overflow' => 'pointer index expression',
    );

    $ENV{HATCH_SUPPRESSIONS} = '/dev/null';
    live(100);

    my $reports = reports();

    for my $check (slurp("$lib/nginx.ubsan") =~ /^([\w-]+):\^src\/$/mg) {
        like($reports, qr/^src\/.*runtime error.*$says{$check}/m, $check);
    }

    for my $name (slurp("$lib/nginx.lsan") =~ /^leak:(.+)$/mg) {
        like($reports, qr/ in $name src\//, $name);
    }

    unlike($reports, qr/ERROR: AddressSanitizer/, 'and there is nothing else');
    allow_log(qr/runtime error|Sanitizer/);
}

done();
