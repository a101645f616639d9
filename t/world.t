#!/usr/bin/perl

# The world that tests run in (t/lib/world), on a machine that has Hatch
# installed: nothing of that one is seen there, or changed.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

# a machine with a configuration of its own, and VMs of another libvirt
write_file("$dir/machine", <<'END');
set -e
mkdir -p "$1/etc" "$1/lib"
mount -t tmpfs tmpfs "$1/etc"
mkdir "$1/etc/up" "$1/etc/work" "$1/etc/libup" "$1/etc/libwork"
mount -t overlay overlay /etc \
    -o "lowerdir=/etc,upperdir=$1/etc/up,workdir=$1/etc/work"
mount -t overlay overlay /var/lib \
    -o "lowerdir=/var/lib,upperdir=$1/etc/libup,workdir=$1/etc/libwork"
mkdir -p /etc/hatch /var/lib/hatch/agent
echo '{"max_vms": 1, "zone": "/run/elsewhere"}' > /etc/hatch/agent.json
echo mine > /var/lib/hatch/agent/mine
unset HATCH_WORLD
"$2/t/lib/world" --no-libvirt "$3" --connect test:///default --check || echo "status $?"
"$2/t/lib/world" --no-libvirt ls -A /etc/hatch /var/lib/hatch
"$2/t/lib/world" --no-libvirt touch /var/lib/hatch/agent
cat /etc/hatch/agent.json /var/lib/hatch/agent/mine
END
my $out = qx(unshare --mount --propagation private bash '$dir/machine' \\
             '$dir' '$top' '$Test::Hatch::build/hatch-agent' 2>&1);

like($out, qr{^zone: /run/hatch/zone,}m, 'not its configuration')
    or diag $out;
like($out, qr/^ok$/m, 'nor its VMs');
like($out, qr{^/etc/hatch:\n\n/var/lib/hatch:\n\{}m, 'both are empty');
like($out, qr/^\{"max_vms": 1,.*\}\nmine\n\z/m, 'and are left alone');

done();
