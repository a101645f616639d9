#!/usr/bin/perl

# make dist: the same bytes each time, in git and in what was unpacked, with all
# that the sources have and nothing of who made it.  And the version, which
# stands in the Makefile, is everybody's.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL SOURCE_DATE_EPOCH)};
my ($version) = slurp("$top/Makefile") =~ /^VERSION\s*=\s*(\S+)/m;
my $name = "hatch-$version";

sub dist {
    my ($from, $to, @more) = @_;
    mkdir "$dir/$to";
    my $out = qx(cd / && umask 077 && @more '$from/util/dist' \\
                 '$dir/$to/$name.tar.xz' 2>&1);
    is($? . $out, "0$dir/$to/$name.tar.xz\n", "made: $to");
    return slurp("$dir/$to/$name.tar.xz");
}

# --- the tarball ---

my $first = dist($top, 'first');
ok(dist($top, 'second', 'TZ=Asia/Tokyo LC_ALL=C.UTF-8') eq $first,
   'the same bytes twice, whatever the zone, the locale and the umask');

is(system('tar', '-xf', "$dir/first/$name.tar.xz", '-C', $dir), 0, 'unpacked');
mkdir "$dir/$name/build" and write_file("$dir/$name/build/x", 'x');
ok(dist("$dir/$name", 'third') eq $first, 'and once more out of itself');

my @list = split /\n/, qx(tar --numeric-owner -tvf '$dir/first/$name.tar.xz');
is(join("\n", grep !m{^[d-]rw[x-]r-[x-]r-[x-] 0/0 }, @list), '',
   'of nobody, and for all to read');
my @names = map m{ (\Q$name\E/.*)$}, @list;
is(join("\n", grep m{^\Q$name\E/(build\b|\.git/)}, @names), '',
   'no build, no git');
my %is = map { $_ => 1 } @names;
ok($is{"$name/$_"}, "it has $_")
    for qw(Makefile config debian/rules agent/main.c t/dist.t LICENSE);

SKIP: {
    my @committed = split /\n/, qx(git -C '$top' ls-tree -r --name-only HEAD \\
                                   2>/dev/null);
    skip 'no git', 1 if !@committed;
    is(join(' ', grep !$is{"$name/$_"}, @committed), '', 'all that is committed');
}

# --- the version ---

like(slurp("$top/debian/changelog"), qr/^hatch \(\Q$version\E\) /,
     'debian/changelog has it first');
like(slurp("$top/CHANGES"), qr/\A\s*Changes with Hatch \Q$version\E\b/,
     'so has CHANGES');
is(qx('$Test::Hatch::build/hatch-agent' --version), "hatch-agent $version\n",
   'hatch-agent says it');
like(slurp("$Test::Hatch::build/ngx_http_hatch_module.so"), qr/\Q$version\E\0/,
     'the module has it');

# --- what the packages are built with, also on a machine with nothing ---

my %has = map { $_ => 1 } map split(' ', $_),
          slurp("$top/util/deps") =~ /^(?:build|run|deb)="(.*?)"$/msg;
my ($wants) = slurp("$top/debian/control") =~ /^Build-Depends: (.*?)^\S/ms;
my @missing = grep { !grep $has{s/ .*//r}, split / \| / }
              grep !/^(?:debhelper-compat|dh-sequence-)/,
              split /,\s+/, "build-essential, debhelper, " . $wants =~ s/\s+\z//r;
is("@missing", '', 'util/deps installs what "make deb" needs');

done();
