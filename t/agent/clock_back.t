#!/usr/bin/perl

# The wall clock is set back by a day, and forward again: no figure wraps, the
# order of snapshots is that in which they were taken, and nobody waits longer.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

# A wall clock that is as many seconds late as there are bytes in a file; the
# agent has it by LD_PRELOAD.
write_file("$dir/clock.c", <<'EOF');
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
    int          rc = (int) syscall(SYS_clock_gettime, clock, ts);
    struct stat  st;
    if (rc == 0 && clock == CLOCK_REALTIME && stat(LATE, &st) == 0) {
        ts->tv_sec -= st.st_size;
    }
    return rc;
}
EOF
system('cc', '-shared', '-fPIC', '-o', "$dir/clock.so", "$dir/clock.c",
       "-DLATE=\"$dir/late\"") == 0 or die;

sub late {
    my ($seconds) = @_;
    open my $fh, '>', "$dir/late" or die;
    truncate $fh, $seconds or die;
}

sub uptime { return api('GET', "/vms/$_[0]/metrics")->{json}{uptime_seconds} }

late(0);
start_agent(env => { LD_PRELOAD => "$dir/clock.so",
                     HATCH_STATS_INTERVAL => '0.2s' });
my $first = create_vm({ name => 'first' });
cmp_ok(uptime($first->{id}), '<', 100, 'uptime');

late(86_400);
my $second = create_vm({ name => 'second' });
ok($second->{created_at} lt $first->{created_at}, 'a day earlier')
    or diag("$first->{created_at} $second->{created_at}");
cmp_ok(uptime($_->{id}), '<', 100, 'uptime of both') for $first, $second;
my $patched = api('PATCH', "/vms/$first->{id}", { name => 'other' })->{json};
cmp_ok($patched->{updated_at}, 'ge', $patched->{created_at},
       'updated_at is not before created_at');
my $began = time;
is(api('POST', "/vms/$first->{id}/$_")->{status}, 200, $_)
    for 'pause', 'resume', 'stop', 'start';
cmp_ok(time - $began, '<', 15, 'which take no longer');

stop_agent();
start_agent(env => { LD_PRELOAD => "$dir/clock.so" });
my $third = create_vm({ name => 'third' });
late(0);
cmp_ok(uptime($third->{id}), '<', 100, 'set forward: uptime is as it was');
late(400_000);
cmp_ok(uptime($third->{id}), '<', 100, 'and back');

my $template = api('POST', '/templates', { name => 't' })->{json};
late(500_000);
$template = api('PATCH', "/templates/$template->{id}", { name => 'u' })->{json};
cmp_ok($template->{updated_at} // $template->{created_at}, 'ge',
       $template->{created_at}, 'a template, too');

done();
