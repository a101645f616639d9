# Goals 1 and 2, in pairs with the code before: what /healthz and a proxied
# request cost in instructions.
#
# HATCH_BEFORE is a revision, by default the last release.  Its module is built
# once, with its own zone and store, in $build/before.

use strict;
use warnings;

our ($top, $dir, $build, $quick, $turns, $backend, $ready, $counters,
     $callgrind);
our $fill;

sub before_revision {
    my $git = "git -C '$top'";
    my ($last) = qx($git describe --tags --abbrev=0 2>/dev/null) =~ /(\S+)/;
    my $wanted = $ENV{HATCH_BEFORE} // $last // 'e13120b';
    my ($revision) = qx($git rev-parse --verify -q '$wanted^{commit}' 2>&1)
                     =~ /^([0-9a-f]{40})$/;
    return $revision;
}

# Where that revision is built; nothing if it cannot be.
sub build_before {
    my ($revision) = @_;
    my $tree = "$build/before/$revision";
    return "$tree/build" if -e "$tree/build/unit/fill";
    system('sh', '-c', "exec > '$dir/logs/before.log' 2>&1; set -e
        rm -rf '$tree' && mkdir -p '$tree'
        git -C '$top' archive $revision | tar -x -C '$tree'
        cd '$tree' && util/build-module build
        make -j2 BUILD=build build/unit/fill") == 0 or return;
    return "$tree/build";
}

# Instructions of /healthz and of a proxied request, with what is built there.
sub counted_with {
    my ($from, $name) = @_;
    mkdir "$dir/$name";
    mkdir "$dir/$name/$_" for qw(run logs);
    local ($dir, $build, $turns) = ("$dir/$name", $from, 1);
    local $fill = "$from/unit/fill";
    local $ready;

    my $server = proxies(1, 1000);
    my @counts = instructions($server,
        { port => 8001, path => '/healthz' },
        { port => 8003, names => 1000, backend => $backend });
    stop_server($server);
    not_ready();
    return @counts;
}

my $revision = before_revision();
my $from = $revision && ($counters || $callgrind) && build_before($revision);

if ($from) {
    my @pairs = map [counted_with($from, 'before'), counted_with($build, 'now')],
                1 .. ($quick ? 2 : 7);
    my @what = ([1, '/healthz', 1.01], [2, 'a proxied request', 1.02]);

    for my $n (0, 1) {
        my ($goal, $what, $limit) = @{ $what[$n] };
        next if !wanted($goal) || grep !defined $_->[$n] || !defined $_->[2 + $n],
                                  @pairs;
        my @ratios = sort { $a <=> $b } map $_->[2 + $n] / $_->[$n], @pairs;
        my $ratio = median(@ratios);
        report($goal, "instructions of $what by those before",
               sprintf('%.4f', $ratio), "<= $limit", $ratio <= $limit,
               sprintf('%.4f-%.4f, %d pairs with %.7s; %.2f k by %.2f k',
                       $ratios[0], $ratios[-1], scalar @pairs, $revision,
                       map median(@$_) / 1000, [map $_->[2 + $n], @pairs],
                       [map $_->[$n], @pairs]));
    }
} else {
    report(1, 'instructions by those before', 'none', undef, undef,
           !$revision ? 'no such revision'
           : $counters || $callgrind ? 'it cannot be built'
           : 'neither counters nor valgrind');
}

1;
