#!/usr/bin/perl

# The packages on a Debian host, as a user meets them: installed, with a first
# VM, asleep and awake, upgraded under traffic, with libvirt and QEMU upgraded
# beneath, over a reboot and a power cut, backed up, removed and purged.  The
# commands of docs/install.md are run as they stand there.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host ();
use Test::More;

my $host = "$top/t/lib/host";
my $root = '/run/hatch-host/root';
my $build = '/hatch/' . ($Test::Hatch::build =~ m{([^/]+)\z})[0];
my $proxy = 'web.hatch.localhost:9090';

# without the end of its last line
sub host { return Test::Hatch::Host::host(@_) =~ s/\n\z//r }

sub succeeds {
    my ($name, $script) = @_;
    my $out = host($script);
    is($? >> 8, 0, $name) or diag(substr $out, -2000);
    return $out;
}

# The API, as a user asks it.
sub curl {
    my ($method, $path, $body) = @_;
    my $data = defined $body ? "-d '$body'" : '';
    my $out = host("curl -s --max-time 120 -X $method $data"
                   . " http://127.0.0.1:8080$path");
    return eval { json($out) } // { text => $out };
}

sub visit {
    my ($path) = @_;
    return host("curl -si --max-time 120 http://$proxy" . ($path // '/'));
}

# The guest's state: in its memory, and on its disk.
sub guest {
    my ($query) = @_;
    my $answer = visit("/cgi-bin/state$query");
    return join ' ', $answer =~ /^(?:memory|disk) (.*)$/mg;
}

# The commands of a section of docs/install.md, but for the few that cannot run
# here: what builds (/hatch is read only), and an image that is not there.
my $elsewhere = qr/^(?:apt-get install -y make|make )|img_debian|^jq /;
my $machine = '';

sub documented {
    my ($section, $deb) = @_;
    my ($text) = slurp("$top/docs/install.md")
        =~ /^## \Q$section\E\n(.*?)(?:^## |\z)/ms;
    my ($n, $out) = (0, '');

    for my $command ($text =~ /^    [#\$] (.*)$/mg) {
        next if $command =~ $elsewhere;
        my $run = $command =~ s{build/deb/}{$deb // 'build/deb/'}er
                  =~ s{(?:\./|\b)build/}{$build/}gr;
        $out .= succeeds("$section: $command", "VM=$machine; cd /hatch; $run");
        $machine = $1 if $out =~ /"id":"(vm_\w+)"/;
        $n++;
    }

    cmp_ok($n, '>', 0, "$section: done as documented");
    return $out;
}

sub active {
    return host('systemctl is-active hatch-agent hatch-guests nginx | xargs');
}

# A service's process, and since when systemd has had it.
sub main_pid { return host("systemctl show -P MainPID $_[0]") }
sub since { return host("systemctl show -P ActiveEnterTimestampMonotonic $_[0]") }
sub qemu { return host("pgrep -f '^[^ ]*qemu-system.*guest=$_[0]' | xargs") }

# What an operator would look at twice, of all boots.
sub complaints {
    return host('journalctl -q -p err -o cat --no-pager -u hatch-agent'
                . ' -u hatch-guests -u nginx;'
                . ' grep -hE "\[(alert|crit|emerg|error)\]" /var/log/nginx/*');
}

for my $deb ('deb', 'deb/before') {
    glob("$Test::Hatch::build/$deb/*.deb")
        or BAIL_OUT("no packages in $deb: make deb deb-before");
}

is(system($host, 'up') >> 8, 0, 'a Debian host boots') or BAIL_OUT('no host');
END { system $host, 'down' if -e '/run/hatch-host/name' }

# --- the first VM ---

like(documented('Packages', 'build/deb/before/'), qr/^.*\bok$/m,
     'hatch-agent --check is content');
is(active(), 'active active active', 'agent, guests and nginx are active');
is(host('systemctl is-enabled hatch-agent hatch-guests nginx | xargs'),
   'enabled enabled enabled', 'and will be after a boot');
is(host('hatch-agent --version'), 'hatch-agent 0.0.9~before',
   'the version of before');
like(host('id -nG www-data'), qr/\bhatch\b/, "nginx's user is in group hatch");
is(host('stat -c "%U:%G %a" /run/hatch /var/lib/hatch/routes | xargs'),
   'root:root 755 www-data:www-data 700', 'places for nginx and agent');

for my $unit ('hatch-agent', 'hatch-guests') {
    succeeds("$unit: exposure at most 2.5",
             "systemd-analyze security --threshold=25 $unit.service");
}

is(host('grep ^CapEff: /proc/$(systemctl show -P MainPID hatch-agent)/status'),
   "CapEff:\t0000000000001003", 'which the agent has');
is(host('ss -Hltn | grep -E ":(8080|9090) "'), '', 'no site is open yet');
is(documented('nginx') =~ s/.*\n//sr,
   '{"status":"ok","vm_count":0,"route_count":0}', '/healthz');

# what an administrator has changed stays
succeeds('a setting', q(sed -i 's/"info"/"debug"/' /etc/hatch/agent.json)
                      . ' && systemctl reload hatch-agent');

succeeds('a user', 'adduser --disabled-password --gecos "" alice');
like(documented('The first machine'), qr/Hello from a virtual machine/,
     'the first machine has a page');
like(host('setpriv --reuid=alice --regid=alice --init-groups curl -s'
          . ' --unix-socket /run/hatch/agent.sock http://localhost/vms'),
     qr/"id":"$machine"/, 'alice, in group hatch, needs neither nginx nor root');

# --- as it goes on in docs/install.md ---

like(documented('Keys'), qr/"id":"$machine"/, 'the API, with a key');
ok(wait_until('the workers of before end', sub {
    host("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/vms")
        == 401;
}), 'and not without');
is(host('curl -s http://127.0.0.1:8080/healthz'),
   '{"status":"ok","vm_count":1,"route_count":1}', '/healthz asks nobody');
succeeds('no keys again', q(sed -i 's,hatch_api_keys /.*;,hatch_api_keys off;,')
         . ' /etc/nginx/sites-available/hatch && systemctl reload nginx');

my ($site) = slurp("$top/docs/install.md") =~ /^```nginx\n(.*?)^```$/ms;
write_file("$root/etc/nginx/sites-available/hatch-tls", $site);
like(documented('Your own domain, with TLS'), qr/Hello from a virtual machine/,
     'the same machine by TLS, below another domain');
like(host('curl -sk --resolve none.vms.example.com:443:127.0.0.1'
          . ' https://none.vms.example.com/'), qr/"route_not_found"/,
     'of its names only those with a route');
succeeds('both end', 'rm /etc/nginx/sites-*/hatch-tls /etc/hatch/api_keys'
         . ' && systemctl reload nginx');
like(documented('Watch it'), qr/SUCCESS/, 'the alerts are ones');

# one with a disk
succeeds('a disk', 'truncate -s 8M /var/lib/hatch/images/blank.raw');
curl('POST', '/images', '{"id":"img_disk","kernel_path":"vmlinuz",'
     . '"initrd_path":"initrd","rootfs_path":"blank.raw",'
     . '"boot_args":"console=ttyS0 quiet"}');
my $vm = curl('POST', '/vms', '{"image_id":"img_disk","mem_mib":128}');
is($vm->{state}, 'running', 'a VM') or diag explain $vm;
my $id = $vm->{id};
curl('POST', "/vms/$id/routes", '{"subdomain":"web","target_port":80}');
like(visit(), qr/^HTTP\/1.1 200.*Hello from a virtual machine/s,
     'its page, through nginx');
is(host("ps -o user:20= -p " . qemu('vm_')), "libvirt-qemu\nlibvirt-qemu",
   'QEMU is not root');

sub vm_state { return curl('GET', "/vms/$id")->{state} }

sub fall_asleep {
    curl('PATCH', "/vms/$id", '{"idle_timeout":0.2,"save_after":0.2}');
    wait_until('it falls asleep', sub { vm_state() eq 'snapshotted' }, 60);
}

# It may have fallen asleep before it heard of that.
sub stay_awake {
    curl('PATCH', "/vms/$id", '{"idle_timeout":600,"save_after":1800}');
    visit();
}

is(guest('?first'), 'first first', 'it remembers something');
fall_asleep();
is(qemu($id), '', 'asleep, it has no process');
like(visit(), qr/^HTTP\/1.1 200.*desc="restore".*Hello/s, 'a request wakes it');
is(guest(''), 'first first', 'with its memory');
stay_awake();

my $snapshot = curl('POST', "/vms/$id/snapshot", '{"keep_running":true}');
like($snapshot->{id}, qr/^snap_/, 'a snapshot') or diag explain $snapshot;
is(guest('?second'), 'second second', 'it goes on');

# --- the upgrade ---

my %was = (qemu => qemu('vm_'), agent => main_pid('hatch-agent'),
           nginx => main_pid('nginx'), guests => since('hatch-guests'));
write_file("$root/root/go", '');
my @traffic = map {
    spawn("$dir/logs/traffic$_", $host, 'in', '/hatch/t/lib/traffic',
          "http://$proxy/cgi-bin/count", '/root/go')
} 1 .. 3;
wait_until('traffic', sub { slurp("$dir/logs/traffic$_") =~ /\n/ or return 0
                            for 1 .. 3; 1 });
documented('Upgrade');
my $answers = () = map slurp("$dir/logs/traffic$_") =~ /\n/g, 1 .. 3;
wait_until('more traffic', sub {
    (() = map slurp("$dir/logs/traffic$_") =~ /\n/g, 1 .. 3) > $answers + 20 });
unlink "$root/root/go";
reap($_) for @traffic;

my @sent = map { split /\n/, slurp("$dir/logs/traffic$_") } 1 .. 3;
cmp_ok(scalar @sent, '>', 30, scalar @sent . ' requests meanwhile');
is(scalar(grep !/ 200$/, @sent), 0, 'each is answered')
    or diag((grep !/ 200$/, @sent)[0]);
my %counted;
$counted{$_}++ for visit('/cgi-bin/count') =~ /^(\d+\.\d+)$/mg;
is(join(' ', grep +($counted{s/ .*//r} // 0) != 1, @sent), '',
   'and the guest has seen each once');

is(active(), 'active active active', 'all is active');
is(host('hatch-agent --version') =~ s/.* //r,
   (slurp("$top/Makefile") =~ /^VERSION\s*=\s*(\S+)/m)[0], 'the new version');
isnt(main_pid('hatch-agent'), $was{agent}, 'another agent');
isnt(main_pid('nginx'), $was{nginx}, 'another nginx');
is(main_pid('nginx'), host('cat /run/nginx.pid'), 'which systemd knows');
is(host('for p in $(pgrep "^(nginx|hatch-agent)"); do'
        . ' grep -h "hatch.*(deleted)" /proc/$p/maps; readlink /proc/$p/exe |'
        . ' grep deleted; done'), '', 'nobody uses old files');
is(since('hatch-guests'), $was{guests}, 'what saves VMs was left alone');
is(qemu('vm_'), $was{qemu}, 'the VM ran on');
is(guest(''), 'second second', 'with all that it had');
is(host('grep -c debug /etc/hatch/agent.json'), '1', 'the setting is kept');
is(host('systemctl --failed --plain --no-legend | grep -E "hatch|nginx"'), '',
   'nothing has failed');

# --- libvirt and QEMU upgraded beneath ---

# as dpkg does: new files in the place of the old ones, then the scripts
succeeds('QEMU is replaced', 'f=$(readlink -f /usr/bin/qemu-system-x86_64)'
         . ' && cp -p $f $f.new && touch $f.new && mv $f.new $f');
succeeds('libvirt is upgraded', 'i=/var/lib/dpkg/info/libvirt-daemon-system;'
         . ' v=$(dpkg -s libvirt-daemon-system | sed -n "s/^Version: //p");'
         . ' DPKG_MAINTSCRIPT_PACKAGE=libvirt-daemon-system; export'
         . ' DPKG_MAINTSCRIPT_PACKAGE DEBIAN_FRONTEND=noninteractive;'
         . ' $i.prerm upgrade $v && $i.postinst configure $v;'
         . ' systemctl restart libvirtd');
is(guest(''), 'second second', 'the VM ran on');
wait_until('the agent is back',
           sub { curl('GET', '/readyz')->{libvirt} eq 'connected' });
fall_asleep();
is(guest(''), 'second second', 'it is saved and restored by the new QEMU');
stay_awake();
is(active(), 'active active active', 'all is active');

# --- the host reboots, as "unattended-upgrades" has it ---

is(system($host, 'reboot') >> 8, 0, 'a reboot');
is(active(), 'active active active', 'all is active');
is(vm_state(), 'snapshotted', 'the VM is asleep');
like(visit(), qr/^HTTP\/1.1 200.*desc="restore".*Hello/s, 'and woken');
is(guest(''), 'second second', 'where it was');
is(curl('GET', "/vms/$machine")->{state}, 'snapshotted',
   'the other one sleeps on');
is(since('hatch-agent') < since('nginx'), 1, 'the agent came before nginx');

# --- the power goes ---

is(system($host, 'crash') >> 8, 0, 'a power cut');
is(active(), 'active active active', 'all is active');
is(vm_state(), 'stopped', 'the VM is stopped');
like(visit(), qr/^HTTP\/1.1 200.*desc="boot".*Hello/s, 'and booted');
is(guest(''), ' second', 'with its disk');
curl('POST', "/vms/$id/stop", '{}');
is(curl('POST', "/vms/$id/restore", qq({"snapshot_id":"$snapshot->{id}"}))
   ->{state}, 'running', 'the snapshot is restored');
is(guest(''), 'first first', 'and is what it was');

# --- memory that cannot be restored, which the unit has to put aside ---

fall_asleep();
succeeds('saved memory is spoilt',
         "truncate -s 4096 /var/lib/libvirt/qemu/save/$id.save");
like(visit(), qr/^HTTP\/1.1 200.*desc="boot".*Hello/s, 'the VM is booted');
is(guest(''), ' first', 'with its disk');
stay_awake();
my $list = "ls /var/lib/libvirt/qemu/save | grep ^$id";
like(host($list), qr/^$id\.save\.aside-\S+$/, 'the memory is put aside');
curl('DELETE', "/orphans/$id");
is(host($list), '', 'and deleted when asked for');

# --- removed, and back ---

documented('Backup');
is(guest(''), ' first', 'backed up, and woken');
%was = (qemu => qemu('vm_'));
my $kept = 'cd /var/lib/hatch; find . -type f ! -name lock.mdb'
         . ' ! -path "./disks/*" -exec cksum {} + | sort';
like(succeeds('dpkg -r', 'dpkg -r hatch-agent libnginx-mod-http-hatch'),
     qr/\A(?!.*would not start)/s, 'nginx can start without it');
is(host('systemctl is-active hatch-agent nginx | xargs'), 'inactive active',
   'the agent is gone, nginx is not');
succeeds('nginx starts again', 'systemctl restart nginx');
is(qemu('vm_'), $was{qemu}, 'the VM runs on');
succeeds('back again', "dpkg -i $build/deb/*.deb");
is(active(), 'active active active', 'all is active');
is(qemu('vm_'), $was{qemu}, 'the VM runs on');
is(guest('?third'), 'third third', 'and is served');

# --- purged ---

succeeds('dpkg -r', 'dpkg -r hatch-agent libnginx-mod-http-hatch');
my $files = host($kept);
like(succeeds('dpkg -P', 'dpkg -P hatch-agent libnginx-mod-http-hatch'),
     qr/machines in \S+ are kept.*routes in \S+ are kept/s, 'it says so');
is(host($kept), $files, 'nothing of the VM is touched');
is(qemu('vm_'), $was{qemu}, 'it runs on');
is(host('ls -d /etc/hatch /etc/nginx/sites-*/hatch* /run/hatch'
        . ' /etc/nginx/modules-enabled/*hatch* 2>/dev/null'), '',
   'all else is gone');

succeeds('and installed again', "dpkg -i $build/deb/*.deb &&"
         . ' ln -s ../sites-available/hatch /etc/nginx/sites-enabled/ &&'
         . ' systemctl reload nginx');
wait_until('nginx listens', sub { curl('GET', '/healthz')->{status} });
is(guest(''), 'third third', 'the VM is as it was');
is(curl('DELETE', "/vms/$_")->{status}, 'deleted', 'deleted')
    for $id, $machine;
curl('DELETE', "/images/$_") for qw(img_default img_disk);
host('rm /var/lib/hatch/images/*');
succeeds('dpkg -P', 'dpkg -P hatch-agent libnginx-mod-http-hatch');
is(host('find /var/lib/hatch/agent /var/lib/hatch/images 2>/dev/null'), '',
   'without a VM nothing is left of the agent');

# --- and all of it is in the backup ---

succeeds('installed again', "dpkg -i $build/deb/*.deb &&"
         . ' ln -s ../sites-available/hatch /etc/nginx/sites-enabled/');
documented('Restore');
wait_until('nginx listens', sub { curl('GET', '/healthz')->{status} });
like(visit(), qr/^HTTP\/1.1 200.*desc="restore".*Hello/s, 'restored and woken');
is(guest(''), ' first', 'it is what was backed up');
is(curl('GET', "/vms/$machine")->{state}, 'snapshotted', 'the other one, too');

is(complaints(), '', 'no error in any log');
is(system($host, 'down') >> 8, 0, 'the host ends');

done();
