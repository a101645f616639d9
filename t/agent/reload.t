#!/usr/bin/perl

# SIGHUP: the file is read again.  What can be changed while the agent runs is,
# of all else it says that it needs a restart, and a file that breaks a rule
# changes nothing.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my $file = "$dir/agent.json";
my $agent;

sub begin {
    my ($config, %env) = @_;
    write_file($file, $config);
    my @undefined = grep !defined $env{$_}, keys %env;
    $agent = start_agent(args => ['--config', $file], env => \%env);
}

# Writes the file, has it read, and returns what was said of it.
sub reload {
    my ($config) = @_;
    my $before = length agent_log();
    write_file($file, $config);
    kill 'HUP', $agent;
    my $said;
    wait_until('SIGHUP is answered', sub {
        $said = substr agent_log(), $before;
        $said =~ /SIGHUP: (?:the configuration was read|nothing is changed)/;
    });
    return $said;
}

sub refused {
    my ($status, $code) = @_;
    my $r = api('POST', '/vms', {});
    is("$r->{status} $r->{json}{code}", "$status $code", "then $status $code");
}

begin('{"max_vms":1,"resync_interval":3600,"stats_interval":"never"}');
my $vm = create_vm({ name => 'first' });
is($vm->{idle_timeout}, 600, 'idle_timeout as it is without a word');
refused(403, 'limit_reached');

# The milliseconds of a time's minute; sampled_at is made of an age.
sub milli {
    my ($time) = @_;
    return $time =~ /:([\d.]+)Z/ ? $1 * 1000 : -1e6;
}

# --- limits, defaults, times ---

my $said = reload('{"max_vms":3,"default_vcpu":2,"idle_timeout":"5m",'
                  . '"save_after":"never","resync_interval":3600,'
                  . '"stats_interval":"never","max_vcpus":3}');
like($said, qr/info: SIGHUP: "max_vms" is 3 now, it was 1\n/, 'a limit');
like($said, qr/info: SIGHUP: "idle_timeout" is 300 now, it was 600\n/,
     'a time');
like($said, qr/info: SIGHUP: "save_after" is "never" now, it was 1800\n/,
     'that does not come');
like($said, qr/info: SIGHUP: "default_vcpu" is 2 now, it was 1\n/,
     'a default');
unlike($said, qr/"resync_interval"|"stats_interval"|restart/,
       'no word of what is as it was');
my $second = create_vm({ name => 'second' });
is_deeply([@$second{qw(idle_timeout save_after vcpu_count)}],
          [300, undef, 2], 'a VM that is made then has them');
is(api('GET', "/vms/$vm->{id}")->{json}{idle_timeout}, 600,
   'one that was there keeps its own');
refused(403, 'limit_reached');              # max_vcpus

like(reload('{"max_vms":1,"resync_interval":3600,"stats_interval":"never"}'),
     qr/"max_vms" is 1 now, it was 3/, 'lower than there are');
is(scalar @{ api('GET', '/vms')->{json} }, 2, 'costs no VM');
refused(403, 'limit_reached');
like(reload('{"max_vms":3,"max_mem_mib":300,"resync_interval":3600,'
            . '"stats_interval":"never"}'),
     qr/"max_mem_mib" is 300 now, it was 0/, 'max_mem_mib');
refused(403, 'limit_reached');
reload('{"max_vms":9,"max_overlay_size_mib":10,"max_snapshots_per_vm":1,'
       . '"resync_interval":3600,"stats_interval":"never"}');
is(api('POST', "/vms/$second->{id}/pause")->{status}, 200, 'pause');

# --- what threads wait for ---

is(api('GET', "/vms/$vm->{id}/metrics")->{json}{sampled_at}, undef,
   'no statistics');
like(reload('{"stats_interval":"0.2s"}'),
     qr/"stats_interval" is 0.2 now, it was "never"/, 'stats_interval');
wait_until('then there are', sub {
    defined api('GET', "/vms/$vm->{id}/metrics")->{json}{sampled_at};
}, 5);
reload('{"stats_interval":"never"}');
my $sampled = sub { api('GET', "/vms/$vm->{id}/metrics")->{json}{sampled_at} };
my ($last, $since) = ('', time);
wait_until('and then no new ones', sub {
    my $now = $sampled->();
    ($last, $since) = ($now, time) if abs(milli($now) - milli($last)) > 20;
    return time - $since > 1;
}, 10);

# --- the environment ---

# the environment of these tests has it, so it counts
like(reload('{"log_level":"error"}'), qr/SIGHUP: the configuration was read/,
     'what the environment says is not overridden');
ok(agent_log() =~ /debug: (?!.*debug: ).*\z/s, 'the level stays');
stop_agent();

# --- what cannot be changed, and what is wrong ---

begin('{"log_level":"info"}', HATCH_MAX_VMS => 5);
$said = reload('{"zone_vms":32,"max_vms":7,"network_name":"other",'
               . '"stop_timeout":3,"state_dir":"/elsewhere",'
               . '"image_dir":"/elsewhere"}');
like($said, qr/warn: SIGHUP: "zone_vms" stays 16384 until the agent is (?#
              )restarted, then it is 32\n/, 'the zone needs a restart');
like($said, qr/warn: SIGHUP: "network_name" stays "hatch" until .* "other"\n/,
     'so does the network');
like($said, qr/"stop_timeout" is 3 now, it was 10/, 'all else is changed');
unlike($said, qr/max_vms/, 'but not what the environment overrides');
unlike($said, qr/state_dir|image_dir/, 'or the command line');
like(reload('{"zone_vms":32,"stop_timeout":3,"network_name":"other"}'),
     qr/"zone_vms" stays 16384/, 'it is said again');

for my $case (['{"max_vcpus":-1,"stop_timeout":4}', '"max_vcpus" must be 0 to'],
              ['{"stop_timeout":4,"bridge_cidr":"x"}', '"bridge_cidr" must be'],
              ['{"stop_timeout":4,"colour":1}', 'unknown field "colour"'],
              ['{"stop_timeout":4', 'the JSON text ends too early'])
{
    my ($config, $words) = @$case;
    $said = reload($config);
    like($said, qr/error: SIGHUP: nothing is changed: .*\Q$words/,
         "says: $words");
    unlike($said, qr/stop_timeout.*now/, 'and changes nothing');
}

unlink $file or die $!;
kill 'HUP', $agent;
wait_until('a file that is gone', sub {
    agent_log() =~ /nothing is changed: cannot read "\Q$file"/;
});
like(reload('{"stop_timeout":4}'), qr/"stop_timeout" is 4 now, it was 3/,
     'it can be mended');
ok(create_vm(), 'and all goes on');
stop_agent();

# --- the image of the configuration, all of it at once ---

delete $ENV{"HATCH_DEFAULT_$_"} for 'KERNEL_PATH', 'INITRD_PATH';
my ($kernel, $initrd) = map "$Test::Hatch::build/image/$_", 'vmlinuz',
                                                            'initrd';
write_file($file, '{"max_vms":100}');
$agent = Test::Hatch::spawn("$dir/logs/agent.log",
    "$Test::Hatch::build/hatch-agent", '--connect', 'test:///default',
    '--config', $file, '--zone', "$dir/run/zone",
    '--socket', "$dir/run/agent.sock", '--wake-socket', "$dir/run/wake.sock",
    '--state-dir', "$dir/state", '--image-dir', "$dir/images");
wait_until('it knows its VMs', sub {
    my $r = eval { api('GET', '/vms') };
    $r && $r->{status} == 200;
});
is(api('POST', '/vms', {})->{status}, 400, 'no default image');
$said = reload(qq({"default_kernel_path":"$kernel",)
               . qq("default_initrd_path":"$initrd"}));
like($said, qr/"default_kernel_path" is "\Q$kernel\E" now, it was ""/,
     'its kernel');
is(api('POST', '/vms', {})->{status}, 201, 'then there is one');
is(api('GET', '/images/img_default')->{json}{kernel_path}, $kernel,
   'with these files');

# --- log_level ---

write_file($file, '{"log_level":"error"}');
kill 'HUP', $agent;
wait_until('another level', sub {
    agent_log() =~ /"log_level" is "error" now, it was "info"/;
});
my $length = length agent_log();
is(api('POST', '/templates', { name => 't' })->{status}, 201, 'a change');
is(api('DELETE', '/vms/' . api('GET', '/vms')->{json}[0]{id})->{status}, 200,
   'and another');
is(substr(agent_log(), $length), '', 'of which nothing is said');
like(reload('{"log_level":"info"}'), qr/SIGHUP: the configuration was read/,
     'and back');
is(api('POST', '/vms', {})->{status}, 400, 'and none again');

# many times, under load: nobody sees half of it
my @kids;
for (1 .. 3) {
    my $kid = fork // die;
    if (!$kid) {
        my $bad = 0;
        for (1 .. 100) {
            my $r = api('GET', '/images');
            for my $image (@{ $r->{json} }) {
                $bad++ if ($image->{boot_args} // '') ne
                          ($image->{kernel_path} eq $kernel ? 'a' : 'b');
            }
        }
        POSIX::_exit($bad ? 1 : 0);
    }
    push @kids, $kid;
}
for my $i (1 .. 60) {
    my ($path, $args) = $i % 2 ? ($kernel, 'a') : ($initrd, 'b');
    write_file($file, qq({"default_kernel_path":"$path",)
                      . qq("default_boot_args":"$args"}));
    kill 'HUP', $agent;
    select undef, undef, undef, .01;
}
for (@kids) { waitpid $_, 0; is($?, 0, 'whole, or not at all') }

allow_log(qr/error: SIGHUP: nothing is changed/);
done();
