#!/usr/bin/perl

# The man pages: every option of hatch-agent and every key of its configuration
# is in them, man has nothing to say about them, and they are what is installed.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
my $out = qx(make -s -C '$top' BUILD='$Test::Hatch::build' \\
             DESTDIR='$dir/root' install-agent 2>&1);
is($? . $out, '0', 'installed');

my $man = "$dir/root/usr/share/man";
my %page = map { ($_ => "$man/man" . substr($_, -1) . "/$_") }
           qw(hatch-agent.8 hatch-agent.json.5 hatch-zone.1);
my %text;

# What a reader sees of a page, without the words' being broken.
for my $name (sort keys %page) {
    my $said = qx(LC_ALL=C.UTF-8 MANWIDTH=10000 MANROFFSEQ='' \\
                  man --warnings -E UTF-8 -l '$page{$name}' 2>&1 >'$dir/text');
    is($said, '', "$name: no warning");
    $text{$name} = slurp("$dir/text");
    like($text{$name}, qr/^NAME\n\s+\S+ - \S/m, "$name: a name, for apropos");
    unlike($text{$name}, qr/VERSION|[`|]/, "$name: all is put in, no Markdown");
}

my ($version) = slurp("$top/Makefile") =~ /^VERSION\s*=\s*(\S+)/m;
like(slurp($page{$_}), qr/"Hatch \Q$version\E"/, "$_: the version")
    for sort keys %page;

my $help = qx('$Test::Hatch::build/hatch-agent' --help);
my %option = map { $_ => 1 } $help =~ /(--[a-z-]+)/g;
cmp_ok(scalar keys %option, '>=', 10, 'hatch-agent has options');
like($text{'hatch-agent.8'}, qr/^ +\Q$_\E( |$)/m, "hatch-agent.8: $_")
    for sort keys %option;
is_deeply([grep !$option{$_}, $text{'hatch-agent.8'} =~ /^ +(--[a-z-]+)/mg],
          [], 'and no others');

my $keys = json(slurp("$top/deploy/agent.json"));
like($text{'hatch-agent.json.5'}, qr/^ +\Q$_\E \(default: .*\)$/m,
     "hatch-agent.json.5: $_") for sort keys %$keys;

done();
