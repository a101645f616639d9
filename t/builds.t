#!/usr/bin/perl

# The module built against trees of nginx other than that of a package: a
# release, a clone, one without threads, and what is none.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $package = '/usr/share/nginx/src';
my $n = 0;

# A copy of the package's tree, changed by a command; the build's exit status
# and output.
sub build {
    my ($change, %env) = @_;
    my $tree = "$dir/tree" . ++$n;

    system("cp -r $package $tree && chmod -R u+w $tree && cd $tree && $change")
        == 0 or die "$change: $?";
    local @ENV{qw(CC CFLAGS NGINX_SRC)} = ('gcc', '-O0', $tree);
    local @ENV{keys %env} = values %env;
    delete local @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS V)};

    my $out = qx($top/util/build-module $dir/out 2>&1);
    return ($? >> 8, $out);
}

sub loads {
    my ($what) = @_;
    my ($status, $out) = nginx_t(<<"EOT");
load_module $dir/out/ngx_http_hatch_module.so;
pid $dir/nginx.pid;
error_log $dir/logs/t.log;
events { }
http {
    access_log off;
    hatch_zone $dir/run/zone;
    hatch_route_store $dir/routes size=64m;
    server { listen 127.0.0.1:8080; location / { hatch_healthz; } }
}
EOT
    is($status, 0, "$what: loads") or diag $out;
}

sub refused {
    my ($what, $why, $status, $out) = @_;
    is($status, 1, "$what is refused");
    like($out, $why, 'and is told why');
    ok(!-e "$dir/out/ngx_http_hatch_module.so", 'nothing is built');
}

refused('a tree that is none', qr/no nginx source in \S+; install nginx-dev, or/,
        build('rm -r configure auto'));
refused('an nginx without threads',
        qr/hatch needs an nginx with threads \(.*--with-threads\)/,
        build('sed -i s/--with-threads// conf_flags'));
refused('flags without threads', qr/hatch needs an nginx with threads/,
        build('rm conf_flags',
              NGINX_FLAGS => "--with-compat --with-cc-opt='-g -O1'"));

my ($status, $out) = build('rm conf_flags');
is($status, 0, 'a release of nginx: builds') or diag $out;
loads('a release of nginx');

# what nginx -V prints, with quotes and modules whose sources are elsewhere
my ($flags) = qx($Test::Hatch::nginx -V 2>&1) =~ /^configure arguments: (.*)/m;
($status, $out) = build('rm conf_flags && mv configure auto/',
                        NGINX_FLAGS => $flags
                                       . ' --add-dynamic-module=/nowhere');
is($status, 0, 'a clone, with the flags of its nginx: builds') or diag $out;
loads('a clone');

done();
