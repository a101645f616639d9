#!/usr/bin/perl

# nginx.conf.example is a configuration that nginx accepts, and has every
# directive of the module; deploy/agent.json is one that the agent accepts,
# and has every key with its default.  README's synopsis is accepted, too, and
# both have the proxy settings of one file, which is installed where they say.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $module = "$Test::Hatch::build/ngx_http_hatch_module.so";

sub accepted {
    my ($conf, $share) = @_;
    $share //= "$top/deploy/nginx";
    $conf =~ s{^load_module \S*/ngx_http_hatch_module\.so;}{load_module $module;}m;
    $conf =~ s{/run/hatch/}{$dir/run/}g;
    $conf =~ s{/var/lib/hatch/}{$dir/}g;
    $conf =~ s{/var/log/nginx/}{$dir/logs/}g;
    $conf =~ s{include \S*/share/hatch/}{include $share/}g;
    return nginx_t($conf);
}

my $example = slurp("$top/nginx.conf.example");
my ($rc, $out) = accepted($example);
is($rc, 0, 'nginx.conf.example is accepted') or diag $out;

my @directives = map slurp($_) =~ /\{ ngx_string\("(hatch\w*)"\),\s+NGX_/g,
                 glob "$top/ngx_hatch_module/http/*.c";
cmp_ok(scalar @directives, '>=', 6, 'the module has directives');
like($example, qr/^\s*$_[ ;]/m, "the example has $_") for @directives;
like(slurp("$top/docs/directives.md"), qr/^## `$_`/m, "documented: $_")
    for @directives;

# every code that the module answers with
my $errors = slurp("$top/docs/directives.md") =~ s/.*^# Errors$//msr;
my %codes = map { $_ => 1 } map slurp($_) =~
    /(?:NGX_HTTP_[A-Z_]+,\s*|\*code = |_unknown\(r, )"([a-z_]+)"/g,
    glob "$top/ngx_hatch_module/http/*.c";
cmp_ok(scalar keys %codes, '>=', 25, 'the module has codes');
like($errors, qr/`$_`/, "documented: $_") for sort keys %codes;

my ($synopsis) = slurp("$top/README.md") =~ /```nginx\n(.*?)```/s;
ok($synopsis, 'README has a synopsis');
($rc, $out) = accepted($synopsis);
is($rc, 0, 'README\'s synopsis is accepted') or diag $out;

# what the module defines for proxy_set_header is used, and nothing that a
# location would have to define
my $proxy = slurp("$top/deploy/nginx/hatch_proxy.conf");
my $include = qr{^ +include /usr/share/hatch/hatch_proxy\.conf;$}m;
like($_->[1], $include, "$_->[0] includes hatch_proxy.conf")
    for ['the example', $example], ['README', $synopsis];
like($proxy, qr/^proxy_set_header \S+ \$\Q$_\E;$/m, "which has \$$_")
    for qw(hatch_host hatch_port hatch_connection);

# installed elsewhere, the example has them from there
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};

for my $prefix ('/usr', "$dir/usr") {
    $out = qx(make -s -C '$top' -o all BUILD='$Test::Hatch::build' \\
              DESTDIR='$dir/root' PREFIX='$prefix' install 2>&1);
    is($? . $out, '0', "make install PREFIX=$prefix");
    my $share = "$dir/root$prefix/share";
    my $installed = slurp("$share/doc/hatch/nginx.conf.example");
    like($installed, qr{include \Q$prefix\E/share/hatch/hatch_proxy\.conf;},
         'the example includes what is installed');
    like($installed,
         qr{^load_module \Q$prefix\E/lib/nginx/modules/ngx_http_hatch_module}m,
         'and loads it');
    ($rc, $out) = accepted($installed, "$dir/root$prefix/share/hatch");
    is($rc, 0, 'and is accepted') or diag $out;
}

# the agent's configuration
my $config = slurp("$top/agent/core/config.c");
my %keys = $config =~ /^    (?:STRING|INTEGER|BOOLEAN|DURATION)\((\w+),.*?((?:"[^"]*"\s*)+|HATCH_\w+)\)/msg;
my $json = json(slurp("$top/deploy/agent.json"));
is_deeply([sort keys %$json], [sort keys %keys], 'deploy/agent.json: all keys');

for my $key (sort keys %keys) {
    my $default = $keys{$key};
    next if $default !~ /^"/;
    $default = join '', $default =~ /"([^"]*)"/g;
    my $value = $json->{$key};
    $value = $value ? 'true' : 'false' if ref $value;
    is($value, $default, "deploy/agent.json: default of $key");
    like(slurp("$top/docs/agent.md"), qr/^\| `$key` /m, "documented: $key");
}

$out = qx($Test::Hatch::build/hatch-agent --config $top/deploy/agent.json \\
          --connect test:///default --check 2>&1);
is($? >> 8, 0, 'deploy/agent.json is accepted') or diag $out;

done();
