/*
 * The sleep handshake: two nginx workers, the agent, one VM.
 *
 * What is modelled (docs/architecture.md, "Sleep and wake"):
 *
 *   worker   stamps zone.activity, then reads the VM's state in the zone; if
 *            it runs, sends, else asks the agent and begins again when that
 *            answers.  May be killed at any step.
 *   agent    puts an idle VM to sleep: publishes "pausing", then looks at the
 *            stamp again; pauses; saves; a save is cancelled when somebody
 *            asks.  Parks what is paused (its memory image is valid then), which
 *            is cancelled the same way.  Wakes who is asked for; the image is
 *            marked used before the guest runs.  May be killed at any step; the
 *            next one reads the truth from libvirt.
 *   clock    makes a stamp old.  A request in flight renews its stamp well
 *            within the idle time, so it cannot grow old under one.
 *
 * Every assignment is one sequentially consistent access to the zone or one
 * call to libvirt; everything may happen between any two of them.
 *
 * Properties:
 *
 *   assertions   no request is sent to a VM that does not run, none is put to
 *                sleep under a request, and no guest runs while its memory
 *                image is valid
 *   end states   no deadlock: everything ends with all requests answered
 *   answered     every request is answered in the end, or its worker died
 *
 * Break one step to see that the properties catch it (t/model.t):
 * -DNO_SECOND_LOOK, -DSTATE_BEFORE_STAMP, -DRUNNING_TOO_EARLY, -DASK_ONCE,
 * -DUSED_TOO_LATE.
 */

#define WORKERS   2
#define REQUESTS  2             /* of each worker */
#define KILLS     1             /* of each process, at most */

/* what libvirt has, and what the zone says */
mtype = { running, pausing, paused, saving, saved };

mtype vm = running;
bool  valid;                    /* its memory image: may it go on from it? */
mtype state = running;
bool  stamped;                  /* a stamp younger than the idle time */

byte  in_flight;                /* requests that renew the stamp */
byte  sent;                     /* of these, those that the guest works on */
byte  done;                     /* requests answered, or lost with a worker */

bool  asked[WORKERS];           /* messages of wake.sock */
bool  ready[WORKERS];
byte  life;                     /* of the agent: a new one, a new connection */


inline put_to_sleep()
{
    assert(sent == 0);
    vm = paused
}


/* --- the agent --- */

inline fall_asleep()
{
    state = pausing;
#ifndef NO_SECOND_LOOK
    if
    :: stamped -> state = running
    :: else -> put_to_sleep(); state = paused
    fi
#else
    put_to_sleep();
    state = paused
#endif
}


/* The state stays; somebody who asks finds it paused, parked or not. */
inline park()
{
    if
    :: asked[0] || asked[1]     /* cancelled */
    :: valid = true
    fi
}


/* libvirt may let the guest run before it is saved. */
inline save()
{
    state = saving;
    if
    :: valid -> vm = saved;     /* only its process ends */
        state = saved
    :: asked[0] || asked[1] ->
        valid = false;
        run_it();               /* cancelled: libvirt lets it run */
        state = running
    :: else -> vm = saved;
        state = saved
    fi
}


inline run_it()
{
    atomic { vm = running; assert(!valid) }
}


/* By resume or restore; whoever asked is told when the zone says so. */
inline wake(n)
{
#ifdef RUNNING_TOO_EARLY
    valid = false;
    state = running;
    run_it();
#else
#ifdef USED_TOO_LATE
    run_it();
    valid = false;
#else
    valid = false;
    run_it();
#endif
    state = running;
#endif
    atomic { asked[n] = false; ready[n] = true }
}


inline agent_life()
{
    /* whatever the one before published, libvirt knows better */
    state = vm;

end_agent:
    do
    :: state == running && !stamped -> fall_asleep()
    :: state == paused && !asked[0] && !asked[1] && !valid -> park()
    :: state == paused && !asked[0] && !asked[1] -> save()
    :: asked[0] -> wake(0)
    :: asked[1] -> wake(1)
    od
}


bool kill_agent;

active proctype agent()
{
    byte kills;

again:
    { agent_life() } unless { kill_agent };

    /* its messages die with it; the workers notice */
    atomic {
        kill_agent = false;
        asked[0] = false; asked[1] = false;
        life++;
        goto again
    }
}


/* --- a worker --- */

bool kill_worker[WORKERS];
byte left[WORKERS];

inline stamp()
{
    atomic { stamped = true; in_flight++; mine = true }
}


inline request()
{
    mine = false;
    mine_sent = false;

look:
#ifndef STATE_BEFORE_STAMP
    if
    :: mine -> stamped = true
    :: else -> stamp()
    fi;
    seen = state;
#else
    seen = state;
    if
    :: mine -> stamped = true
    :: else -> stamp()
    fi;
#endif
    if
    :: seen == running ->
        atomic { sent++; mine_sent = true; assert(vm == running) };
        atomic {
            sent--; mine_sent = false;
            in_flight--; mine = false;
            left[me]--; done++
        }
    :: else ->
        atomic { asked[me] = true; connection = life };
        do
        :: ready[me] -> ready[me] = false; goto look
#ifndef ASK_ONCE
        :: connection != life ->        /* ask the next agent */
            atomic { asked[me] = true; connection = life }
#endif
        od
    fi
}


inline worker_life()
{
    do
    :: left[me] > 0 -> request()
    :: left[me] == 0 -> break
    od
}


proctype worker(byte me)
{
    mtype seen;
    bool mine, mine_sent;
    byte connection;

again:
    { worker_life() } unless { kill_worker[me] };

    /* its connections end, and its stamps with them */
    if
    :: atomic {
        kill_worker[me] ->
        kill_worker[me] = false;
        if
        :: mine -> in_flight--; left[me]--; done++
        :: else
        fi;
        if
        :: mine_sent -> sent--
        :: else
        fi;
        mine = false; mine_sent = false;
        asked[me] = false; ready[me] = false;
        goto again
    }
    :: left[me] == 0 && !kill_worker[me]
    fi
}


/* --- time, and what goes wrong --- */

active proctype clock()
{
end_clock:
    do
    :: atomic { stamped && in_flight == 0 -> stamped = false }
    od
}


active proctype killer()
{
    byte agents, workers;

end_killer:
    do
    :: agents < KILLS && !kill_agent && done < WORKERS * REQUESTS ->
        atomic { agents++; kill_agent = true }
    :: workers < KILLS && !kill_worker[0] && left[0] > 0 ->
        atomic { workers++; kill_worker[0] = true }
    od
}


init
{
    atomic {
        left[0] = REQUESTS;
        left[1] = REQUESTS;
        run worker(0);
        run worker(1)
    }
}


ltl answered { <> (done == WORKERS * REQUESTS) }
