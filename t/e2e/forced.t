#!/usr/bin/perl

# A creation or a start under which another client pulls the plug: while
# libvirt waits for a QEMU that has begun and says nothing.  In front of QEMU
# stands a script that holds a guest up until it is killed.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# outside of $dir, which cannot be removed while something is mounted there
my ($qemu, $real) = ('/usr/bin/qemu-system-x86_64', '/run/qemu');
write_file($real, '');
write_file("$dir/held.sh", <<"END");
#!/bin/sh
case "\$*" in
*guest=vm_*)
    if [ -e "$dir/hold" ]; then
        echo > "$dir/held"
        read -r never < "$dir/never"
    fi
esac
# it looks for its files beside itself, too
exec $real -L /usr/share/qemu -L /usr/share/seabios "\$@"
END
chmod 0755, "$dir/held.sh";
system('mkfifo', "$dir/never") == 0 or die;
system('mount', '--bind', $qemu, $real) == 0 or die;
system('mount', '--bind', "$dir/held.sh", $qemu) == 0 or die;

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

# Calls the API, and the code with a VM's id once its QEMU is held: both
# answers.
sub under {
    my ($code, @call) = @_;
    unlink "$dir/held";
    write_file("$dir/hold", '');
    my $pid = fork // die;

    if (!$pid) {
        my $r = api(@call) // { status => 0, body => '' };
        write_file("$dir/answer", "$r->{status} $r->{body}");
        POSIX::_exit(0);
    }

    wait_until('QEMU is held', sub { -e "$dir/held" })
        or diag(slurp("$dir/answer"));
    my ($vm) = @{ api('GET', '/vms?state=starting')->{json} };
    ok($vm, 'it is starting');
    my $answer = $code->($vm->{id});
    waitpid $pid, 0;
    unlink "$dir/hold";
    return ($vm->{id}, $answer, slurp("$dir/answer"));
}

my $stop = sub { api('POST', "/vms/$_[0]/stop", { force => JSON::PP::true }) };

for my $case ([stop => $stop], [delete => sub { api('DELETE', "/vms/$_[0]") }])
{
    my ($what, $code) = @$case;
    my ($id, $other, $answer) = under($code, 'POST', '/vms', {});
    like($answer, qr/^409 /, "$what: the creation is 409");
    is(json(substr $answer, 4)->{code}, 'conflict', 'its code');
    like($answer, qr/VM \\"$id\\" was stopped or deleted by force meanwhile/,
         'and it says why');
    is($other->{status}, 404, "$what itself: no such VM any more");
    is(api('GET', "/vms/$id")->{status}, 404, 'the VM is gone');
    unlike(virsh('list --all --name'), qr/vm_/, 'libvirt has none');
    is_deeply([glob "$dir/state/{disks,seeds,pending}/*"], [],
              'and no file is left');
}

# a VM that there is stays: what it is then, libvirt says
my $vm = create_vm()->{id};
is($stop->($vm)->{status}, 200, 'a VM that is stopped');
my (undef, $other, $answer) = under($stop, 'POST', "/vms/$vm/start");
like($answer, qr/^409 .*by force meanwhile/, 'its start is 409');
is($other->{status}, 200, 'stop itself');
is($other->{json}{state}, 'error', 'it did not start');
like(virsh("domstate $vm --reason"), qr/^shut off \(failed\)/, 'in libvirt, too');
is(api('POST', "/vms/$vm/start")->{json}{state}, 'running', 'it can be started');
is(api('DELETE', "/vms/$vm")->{status}, 200, 'and deleted');

# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
