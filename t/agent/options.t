#!/usr/bin/perl

# Configuration: file, environment, command line; --check, --help, --version;
# every error names where, which key, which value and the rule.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $bin = "$Test::Hatch::build/hatch-agent";

# Exit status and output of the agent.
sub run {
    my ($env, @args) = @_;
    local %ENV = (%ENV, %$env);
    open my $fh, '-|', "'$bin' @args 2>&1" or die;
    local $/;
    my $out = <$fh> // '';
    close $fh;
    return ($? >> 8, $out);
}

my ($rc, $out) = run({}, '--help');
is($rc, 0, '--help');
like($out, qr/--$_\b/, "--help tells of --$_") for qw(
    config connect zone socket wake-socket state-dir image-dir check save-all adopt version
    help);

($rc, $out) = run({}, '--version');
is($rc, 0, '--version');
like($out, qr/^hatch-agent \d+\.\d+\.\d+$/, 'a version');

($rc, $out) = run({}, '--check', '--connect', 'test:///default');
is($rc, 0, '--check of what is right');
like($out, qr/^libvirt: test:\/\/\/default, version [\d.]+, driver TEST/m,
     'says what it found');
like($out, qr/\nok\n\z/, 'and, last, ok');
ok(!-e "$dir/run/zone" && !-e '/run/hatch', 'and makes nothing');

($rc, $out) = run({}, '--check', '--connect', 'test:///nothing/there');
is($rc, 1, '--check of a connection that fails');
like($out, qr/^hatch-agent: error: cannot connect to libvirt: \S/m,
     'says what libvirt said');
unlike($out, qr/^ok$/m, 'and no ok');

write_file("$dir/ok.json", <<'EOF');
{
    "connect": "test:///default",
    "zone_vms": 64,
    "bridge_cidr": "10.99.0.1/24"
}
EOF
($rc, $out) = run({}, '--check', '--config', "$dir/ok.json");
is($rc, 0, 'a file') or diag $out;

sub refused {
    my ($what, $words, $env, @args) = @_;
    my ($status, $text) = run($env, '--check', '--connect', 'test:///default',
                              @args);
    is($status, 1, "refused: $what");
    like($text, qr/\Q$words/, "says: $words");
}

sub file_refused {
    my ($json, $words) = @_;
    write_file("$dir/bad.json", $json);
    refused("file $json", $words, {}, '--config', "$dir/bad.json");
    refused("file $json", "$dir/bad.json", {}, '--config', "$dir/bad.json");
}

file_refused('{"zone_vms":0}', '"zone_vms" must be 1 to 1048576, not 0');
file_refused('{"zone_vms":"64"}', '"zone_vms" must be an integer');
file_refused('{"connect":""}', '"connect" must be 1 to 255 bytes long');
file_refused('{"colour":"red"}', 'unknown field "colour"');
file_refused('{"zone_vms":1,"zone_vms":2}', 'given twice');
file_refused('{"connect":1}', '"connect" must be a string');
file_refused('not json', 'not a JSON object');
file_refused('', 'missing');

refused('no such file', 'cannot read "/nothing.json": No such file', {},
        '--config', '/nothing.json');
refused('environment', 'HATCH_ZONE_VMS: "zone_vms" must be 1 to 1048576, '
        . 'not "many"', { HATCH_ZONE_VMS => 'many' });
refused('environment', 'HATCH_DEFAULT_MEM_MIB: "default_mem_mib" must be 128',
        { HATCH_DEFAULT_MEM_MIB => 1 });
refused('virt_type', '"virt_type" must be auto, kvm or qemu, not "xen"',
        { HATCH_VIRT_TYPE => 'xen' });
refused('memory', '"memory" must be "auto", "image" or "classic", not "all"',
        { HATCH_MEMORY => 'all' });
refused('log_level', '"log_level" must be error, warn, info or debug',
        { HATCH_LOG_LEVEL => 'loud' });
refused('bridge_cidr', '"bridge_cidr" must be an IPv4 address and a prefix',
        { HATCH_BRIDGE_CIDR => $_ })
    for '10.0.0.1', '10.0.0.1/33', '10.0.0.1/30', '10.0.0/24', 'x', '::1/64',
        '10.0.0.1/24x';
refused('bridge_name', '"bridge_name" must be at most 15',
        { HATCH_BRIDGE_NAME => $_ }) for 'x' x 16, 'a/b', 'a b';
refused('relative path', '"zone" must be an absolute path, not "zone"', {},
        '--zone', 'zone');
refused('option', 'invalid option or missing value: "--colour"', {},
        '--colour');
refused('option without value', '"--zone"', {}, '--zone');
refused('argument', 'unexpected argument "more"', {}, 'more');

# the command line wins over the environment, that over the file
write_file("$dir/order.json", '{"zone":"/nowhere/a","connect":"x:///"}');
($rc, $out) = run({ HATCH_CONNECT => 'y:///' }, '--check', '--config',
                  "$dir/order.json", '--connect', 'test:///default');
is($rc, 0, 'command line over environment over file') or diag $out;
($rc, $out) = run({ HATCH_CONNECT => 'test:///default' }, '--check',
                  '--config', "$dir/order.json");
is($rc, 0, 'environment over file') or diag $out;

write_file("$dir/file", '');
refused('state_dir', '"state_dir": "' . "$dir/file" . '" is not a directory',
        {}, '--state-dir', "$dir/file");
refused('image_dir', '"image_dir": "' . "$dir/file" . '" is not a directory',
        {}, '--image-dir', "$dir/file");
file_refused('{"idle_timeout":0}', '"idle_timeout" must be 0.1 to');
file_refused('{"idle_timeout":true}', '"idle_timeout" must be 0.1 to');
refused('duration', 'HATCH_IDLE_TIMEOUT: "idle_timeout" must be 0.1 to',
        { HATCH_IDLE_TIMEOUT => $_ })
    for '10x', 'm', '', '-1s', '1m2', '10 m', '99999h', '1e9d', '1e400';

for ('10m', '1h30m', '0.5s', '500ms', '90', '1.5', 'never', '1d') {
    ($rc, $out) = run({ HATCH_SAVE_AFTER => $_ }, '--check', '--connect',
                      'test:///default');
    is($rc, 0, "HATCH_SAVE_AFTER=$_") or diag $out;
}

for ('null', '2.5', '"2m"', '60') {
    write_file("$dir/duration.json", qq({"save_after":$_}));
    ($rc, $out) = run({}, '--check', '--connect', 'test:///default',
                      '--config', "$dir/duration.json");
    is($rc, 0, "save_after: $_") or diag $out;
}

refused('group', '"group": there is no group "no-such-group"',
        { HATCH_GROUP => 'no-such-group' });

# at start
($rc, $out) = run({ HATCH_GROUP => 'no-such-group' }, '--connect',
                  'test:///default', '--zone', "$dir/run/zone");
is($rc, 1, 'a group that is not there');
like($out, qr/"group": there is no group "no-such-group"/, 'says so');

($rc, $out) = run({}, '--connect', 'test:///default', '--zone',
                  '/proc/nothing/zone');
is($rc, 1, 'a zone that cannot be made');
like($out, qr/cannot create "\/proc\/nothing"/, 'says so');

# what is somebody's is not overwritten; --check says so, too
mkdir "$dir/mine";
write_file("$dir/mine/$_", "important\n") for 'file', 'short';
write_file("$dir/mine/long", 'important ' x 1000);
mkdir "$dir/mine/folder";
symlink "$dir/mine/file", "$dir/mine/link";
my $listener = IO::Socket::UNIX->new(Local => "$dir/mine/live", Listen => 1);
my $datagram = IO::Socket::UNIX->new(Local => "$dir/mine/datagram",
                                     Type => IO::Socket::UNIX::SOCK_DGRAM());
my @mine = map [$_, slurp("$dir/mine/$_"), (lstat "$dir/mine/$_")[1, 2, 7]],
           qw(file short long folder link live datagram);

for my $case (['zone', 'not a Hatch zone', qw(file short long link)],
              ['zone', 'not a regular file', 'folder'],
              ['socket', 'not a socket', qw(file long folder link)],
              ['wake-socket', 'not a socket', qw(file folder)],
              ['socket', 'in use by another', qw(live datagram)],
              ['wake-socket', 'in use by another', 'live'])
{
    my ($option, $words, @names) = @$case;

    for my $name (@names) {
        my %paths = (zone => "$dir/mine/new.zone",
                     socket => "$dir/mine/new.sock",
                     'wake-socket' => "$dir/mine/new.wake");
        $paths{$option} = "$dir/mine/$name";
        my @args = ('--connect', 'test:///default', '--state-dir',
                    "$dir/mine/state", map { ("--$_", $paths{$_}) } keys %paths);

        ($rc, $out) = run({}, @args);
        is($rc, 1, "--$option $name");
        like($out, qr/"\Q$paths{$option}\E".*\Q$words/, 'says why');

        # an agent that runs, with the same configuration, is no mistake
        ($rc, $out) = run({}, '--check', @args);
        is($rc, $words =~ /in use/ ? 0 : 1, '--check');
        like($out, qr/"\Q$paths{$option}\E".*\Q$words/, 'says it, too')
            if $rc != 0;
        is(join(' ', glob "$dir/mine/new.*"), '', 'nothing was made');
    }
}

is_deeply([map [$_, slurp("$dir/mine/$_"), (lstat "$dir/mine/$_")[1, 2, 7]],
           qw(file short long folder link live datagram)], \@mine,
          'all of it is as it was');
undef $listener;

# a zone of another version is ours, unless another agent has it
start_agent();
stop_agent();
open my $other, '+<', "$dir/run/zone" or die;
seek $other, 8, 0;
print $other pack 'L', 3;
$other->flush;
flock $other, 2 or die;
($rc, $out) = run({}, '--connect', 'test:///default', '--zone',
                  "$dir/run/zone", '--socket', "$dir/run/agent.sock",
                  '--wake-socket', "$dir/run/wake.sock",
                  '--state-dir', "$dir/state");
is($rc, 1, 'a zone of another version that an agent holds');
like($out, qr/zone "\S+" is in use by another process/, 'says so');
close $other;

start_agent();
is(zone()->{version}, 4, 'one that nobody holds is replaced');
($rc, $out) = run({}, '--connect', 'test:///default', '--zone',
                  "$dir/run/zone", '--socket', "$dir/run/other.sock");
is($rc, 1, 'a second agent on the same zone');
like($out, qr/zone "\S+" is in use by another process/, 'says so');
is(api('GET', '/vms')->{status}, 200, 'and the first one goes on');

my @st = stat "$dir/run/agent.sock";
is($st[2] & 07777, 0660, 'the socket has mode 0660');
my $members = (getgrnam 'hatch')[3] // '';
is((getgrgid $st[5])[0], $members =~ /\bwww-data\b/ ? 'hatch' : 'www-data',
   'and the group of whoever may use it');
@st = stat "$dir/run/zone";
is($st[2] & 07777, 0640, 'the zone has mode 0640');
is((getgrgid $st[5])[0], 'www-data', 'and nginx\'s group');

done();
