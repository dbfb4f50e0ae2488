/* P12 as it is felt: under fairness, a caller who keeps asking gets the lock, whoever else comes, crashes, and comes back.
 *
 * Callers ask with a place in the line. All but caller 0 may crash at any time, with the lease or with a place, which then run
 * out. Nobody renews for ever. Without the line (MUTANT=1) caller 0 may starve, and without places that lapse (MUTANT=2) a dead one
 * blocks the line.
 */
#define CALLERS 3
#define NONE 255

mtype = { idle, asks, holds, dead };
mtype phase[CALLERS];
byte holder = NONE;
byte line[CALLERS];
byte waiting;
byte mutant;

#define NO_LINE (mutant == 1)
#define NO_LAPSE (mutant == 2)

inline place_of(who) {
  at = waiting;
  for (k : 0 .. CALLERS - 1) { if :: k < waiting && line[k] == who -> at = k :: else fi }
  k = 0
}

inline leave_line(who) {
  place_of(who);
  if
  :: at < waiting ->
    for (k : 0 .. CALLERS - 2) { if :: k >= at && k + 1 < waiting -> line[k] = line[k + 1] :: else fi }
    k = 0;
    waiting--;
    line[waiting] = 0
  :: else
  fi;
  at = 0
}

proctype caller(byte me) {
  byte k, at;
  do
  :: atomic { phase[me] == idle -> phase[me] = asks }
  :: atomic { phase[me] == asks ->
      place_of(me);
      if
      :: holder == NONE && (at == 0 || NO_LINE) -> at = 0; leave_line(me); holder = me; phase[me] = holds
      :: else -> if :: at == waiting && waiting < CALLERS -> line[waiting] = me; waiting++ :: else fi
      fi;
      at = 0
    }
  :: atomic { phase[me] == holds ->
      if :: holder == me -> holder = NONE :: else fi;
      phase[me] = idle
    }
  :: atomic { me > 0 && phase[me] == asks -> phase[me] = dead }
  :: atomic { me > 0 && phase[me] == holds -> phase[me] = dead }
  od
}

/* What a dead caller left runs out, and it comes back. One for each, or fairness could forget one for the other. */
proctype time(byte who) {
  byte k, at;
  do
  :: atomic { phase[who] == dead ->
      if :: holder == who -> holder = NONE :: else fi;
      if :: !NO_LAPSE -> leave_line(who) :: else fi;
      phase[who] = idle
    }
  od
}

init {
  atomic {
    c_code { now.mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0; }
    phase[0] = idle; phase[1] = idle; phase[2] = idle;
    run caller(0); run caller(1); run caller(2); run time(1); run time(2)
  }
}

ltl served { [] (phase[0] == asks -> <> (phase[0] == holds)) }
