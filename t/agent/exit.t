#!/usr/bin/perl

# An agent ends by itself: no destructor of a library runs under the threads
# that are left, an operation that hangs does not keep it, and what it has said
# is written.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

# The loader tells which libraries it begins and ends.
my $hang = "$dir/hang";
start_agent(env => { LD_DEBUG => 'files', LD_DEBUG_OUTPUT => "$dir/loader",
                     HATCH_FAULT => 'wake.prepared:hang',
                     HATCH_FAULT_FILE => $hang, HATCH_LIBVIRT_TIMEOUT => 1,
                     HATCH_SAVE_TIMEOUT => 1 });
my $pid = $Test::Hatch::agent;
my $id = create_vm()->{id};
is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })->{status}, 200,
   'stop');
write_file($hang, '');
is(api('POST', "/vms/$id/start")->{status}, 504, 'an operation that hangs');
is(stop_agent(), 0, 'it ends with status 0');

my $loader = slurp("$dir/loader.$pid");
like($loader, qr/calling init: \S*libxml2/, 'libxml2 had begun');
unlike($loader, qr/calling fini: \S*lib/, 'and no library is ended');
like(agent_log(), qr/stopping; the VMs keep running\n\z/, 'all is in the log');
ok(!-e "$dir/run/agent.sock" && !-e "$dir/run/wake.sock",
   'its sockets are gone');
is(zone()->{libvirt}, 'disconnected', 'the zone says that nobody keeps it true');

allow_log(qr/warn: POST/);
done();
