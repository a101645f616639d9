#!/usr/bin/perl

# /metrics at its longest: each figure as large as it can be, the longest ids
# and names, and names that are not UTF-8.  In each format it is whole and well
# formed.

use strict;
use warnings;

use Encode ();
use Test::Hatch world => 'plain';
use Test::More;

my $max = '18446744073709551615';

# the names as they are in the zone, and in the label
my @names = (
    ['x' x 63, 'x' x 63],
    ['"' x 63, '\"' x 63],
    ["\xf0\x9f\x90\xa3" x 15, "\xf0\x9f\x90\xa3" x 15],
    ["\xc3\xc3", '??'],
    ["\xc3\xa9\xc3", "\xc3\xa9?"],
    ["\xed\xa0\x80\xed\xb0\x80", '??????'],     # half a pair, and the other
    ["\xc0\x80\xf4\x90\x80\x80\xff", '???????'],
    ["a\nb\x7fc\\d", 'a?b?c\\\\d'],
);

my @lines = map { (sprintf('vm_%016d', 2 * 11111111 + $_), 'running',
                   "127.0.0.1=$names[$_][0]") } 0 .. $#names;
system("$Test::Hatch::build/unit/zone-poke", '--max-figures', "$dir/run/zone",
       16384, @lines) == 0 or die;
start_nginx(workers => 1);

sub scrape {
    my ($type) = @_;
    my $r = http('127.0.0.1:8080', 'GET', '/metrics', undef, Accept => $type);
    is($r->{status}, 200, $type);
    like($r->{headers}{'content-type'}, qr/^\Q$type\E;/, "$type: the format");
    return $r->{body};
}

# Each family, in order, with its lines.
sub families {
    my ($text) = @_;
    my (@order, %lines);
    for (split /\n/, $text) {
        push @order, $1 if /^# TYPE (\S+) /;
        push @{ $lines{$order[-1]} }, $_ if !/^#/;
    }
    return (\@order, \%lines);
}

my @values;
for (['text/plain', 'prometheus_client.parser'],
     ['application/openmetrics-text', 'prometheus_client.openmetrics.parser'])
{
    my ($type, $parser) = @$_;
    my $text = scrape($type);
    my $copy = $text;
    ok(eval { Encode::decode('UTF-8', $copy, Encode::FB_CROAK()); 1 },
       "$type: it is UTF-8");

    # nothing is cut: each line is one of these, and the end is there
    my @odd = grep !/^\#\ (?:HELP\ [a-z_]+\ \S.*\.|TYPE\ [a-z_]+\ [a-z]+|EOF)$
                    |^[a-z_]+(?:\{[a-z]+="(?:[^"\\]|\\.)*"
                               (?:,[a-z]+="(?:[^"\\]|\\.)*")*\})?
                     \ \d+(?:\.\d+)?$/x, split /\n/, $text;
    is(join("\n", @odd), '', "$type: every line is whole");
    is($text =~ /# EOF\n/ ? 'EOF' : '', $type eq 'text/plain' ? '' : 'EOF',
       "$type: EOF");
    like($text, qr/\n# EOF\n\z/, "$type: at the end") if $type ne 'text/plain';
    is($text =~ tr/\n// > 100 && substr($text, -1), "\n", "$type: it ends");

    my ($order, $lines) = families($text);
    is(join(' ', grep !$lines->{$_}, @$order), '',
       "$type: no family is empty");
    is(scalar @{ $lines->{$_} }, @names, "$type: $_ of all VMs")
        for grep /^hatch_vm_/, @$order;
    push @values, $text =~ s/^#.*\n|age_seconds.*\n//gmr;

    my $head = $text =~ s/^# HELP hatch_vm_state.*//msr;
    cmp_ok(scalar(() = $head =~ / $max$/mg), '>=', 54,
           "$type: with the largest figures");
    is(() = $text =~ /^hatch_vm_[^{]+\{id="vm_[^}]*\} (?:$max|18446744073\.7\d+)$/mg,
       @names * 14, "$type: also of VMs");
    for (@names) {
        my $label = quotemeta $_->[1];
        is(() = $text =~ /,name="$label"[,}]/g,
           scalar(grep /^hatch_vm_/, @$order), "$type: a name");
    }

    write_file("$dir/text", $text);
    is(qx(promtool check metrics < '$dir/text' 2>&1), '', 'promtool')
        if $type eq 'text/plain';
    my $out = qx(/usr/bin/python3 -c '
import sys
from $parser import text_string_to_metric_families as parse
print(sum(len(f.samples) for f in parse(sys.stdin.read())))
' < '$dir/text' 2>&1);
    is($out, scalar(grep !/^#/, split /\n/, $text) . "\n",
       "$type: the client library reads it");
}
is($values[0], $values[1], 'both formats say the same');

done();
