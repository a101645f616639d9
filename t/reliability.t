#!/usr/bin/perl

# docs/reliability.md: each row of its tables is whole, and names a test that
# is there, that `make test` runs, and that has the assertions it quotes.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $doc = "$top/docs/reliability.md";
my $columns = 'fault|what the user sees|how it recovers|the test that proves it';

# --- what `make test` runs: the arguments of prove in its recipe ---

my ($recipe) = slurp("$top/Makefile") =~ /^test: test-ready\b.*\n((?:\t.*\n)+)/m;
my ($words) = ($recipe // '') =~ /\$\(PROVE\) (.*)/;
ok($words, 'the Makefile has a recipe of test') or BAIL_OUT('no recipe');
my %runs = map { s{^\Q$top\E/}{}r => 1 }
           map { $_ eq '$(unit_t)' ? glob "$top/t/unit/*.c" : glob "$top/$_" }
           split ' ', $words;
ok($runs{'t/e2e/crash.t'}, 'which runs crash.t');
ok($runs{'t/unit/zone.c'}, 'and the C programs');
ok(!$runs{'t/cloud/cloud_init.t'}, 'but not all that there is');

# --- the rows ---

# A | inside a cell is written \|.
sub cells {
    my ($line) = @_;
    $line =~ s/^\|//;
    $line =~ s/\|\s*$//;
    return map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $line, -1;
}

# What is wrong with a row, or ''.
sub wrong {
    my (@cells) = @_;
    return @cells . ' columns' if @cells != 4;
    return 'an empty column' if grep { $_ eq '' } @cells;

    my @files = $cells[3] =~ /`(t\/[^`]+)`/g or return 'names no test';
    my $text = '';
    for my $file (@files) {
        -f "$top/$file" or return "there is no $file";
        $runs{$file} or return "`make test` does not run $file";
        $text .= slurp("$top/$file") =~ s/^\s*#.*//gmr;    # no comments
    }
    my @quoted = $cells[3] =~ /"([^"]+)"/g or return 'quotes no assertion';
    for my $quoted (@quoted) {
        index($text, $quoted) >= 0 or return "@files: no \"$quoted\"";
    }
    return '';
}

my ($rows, $tables, $in) = (0, 0, 0);
my ($n, @bad) = 0;

for my $line (split /\n/, slurp($doc)) {
    $n++;
    if ($line !~ /^\|/) {
        $in = 0;
    } elsif (!$in) {
        push @bad, "line $n: not the columns" if join('|', cells($line))
                                                 ne $columns;
        $tables++;
        $in = 1;
    } elsif ($line !~ /^\|[-|]+$/) {
        my $why = wrong(cells($line));
        push @bad, "line $n: $why" if $why;
        $rows++;
    }
}

is(join("\n", @bad), '', 'each row is whole, and its test is run');
is($tables, 7, 'seven groups of faults');
cmp_ok($rows, '>=', 60, "$rows rows");

# --- the rules find what breaks them ---

my @good = ('a', 'b', 'c', '`t/model.t`: "the model holds"');
is(wrong(@good), '', 'a good row');
is(wrong(@good[0 .. 2]), '3 columns', 'one column less');
is(wrong('a', '', @good[2, 3]), 'an empty column', 'an empty column');
is(wrong(@good[0 .. 2], 'a test'), 'names no test', 'no test');
is(wrong(@good[0 .. 2], '`t/no.t`: "x"'), 'there is no t/no.t', 'no such test');
is(wrong(@good[0 .. 2], '`t/cloud/cloud_init.t`: "x"'),
   '`make test` does not run t/cloud/cloud_init.t', 'one that is not run');
is(wrong(@good[0 .. 2], '`t/model.t`'), 'quotes no assertion', 'no assertion');
is(wrong(@good[0 .. 2], '`t/model.t`: "no such words"'),
   't/model.t: no "no such words"', 'an assertion that is not there');

done();
