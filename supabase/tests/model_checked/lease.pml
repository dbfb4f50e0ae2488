/* One lock, as supabase/schemas decides on it, between callers of whom anything may come at any time.
 *
 * Checked by spin (model_checked_test.ts). Every request may arrive at any moment, any number of times or never: that is what
 * crashes, stalls and retries of callers, and lost, repeated, late and reordered messages come to. An acquire is two steps, a
 * read and a write if the row is still as it was read (compare-and-set); between them everything else may happen. The database
 * may crash at any time, leases and places run out at any time, the row may be deleted, an administrator may end a lease, a
 * holder may take its own lease over, guarded writes stay open for as long as they like.
 *
 * Times are not numbers here: "has run out" is an event of its own. The clock that makes tokens passes with every grant.
 *
 * MUTANT (environment) breaks one rule, and a property has to notice. WITNESS names a situation, and has to be reached: so no
 * property holds only because nothing happens.
 */

#ifndef IDS
#define IDS 3 /* acquisitions; 0 and 2 are of the same holder, so that one may take over from the other */
#endif
#ifndef WORKERS
#define WORKERS 2 /* acquires between their read and their write */
#endif
#define NONE 255
#define SAME_HOLDER(a, b) ((a) % 2 == (b) % 2)

mtype = { nothing, released, expired, taken_over, force_released, cancelled };
mtype = { granted, held, queued, busy, ended, renewed, not_held, held_by_another, written, refused };

/* the row */
byte holder = NONE;
bool live;
byte token;
/* the clock, as far as tokens see it */
byte clock = 1;
/* the lock history, and cancellations */
mtype end_reason[IDS];
/* each grant's token, as its holder was told */
byte told[IDS];
/* the line: first come first */
byte line[IDS];
byte waiting;
/* open guarded writes, which share the row */
bool writing[IDS];
/* acquires that have read that they may be granted, and whether the row has been written since */
byte worker[WORKERS];
bool stale[WORKERS];
bool takes_over[WORKERS];
byte deletions;

/* for the properties */
byte newest; /* the highest token ever granted */
bool has_lease[IDS];
bool was_granted[IDS];

mtype answer;
byte mutant, witness;
bool seen;
bool dead; /* the recorded run that is being followed was another one */

/* mutants */
#define READ_THEN_UPDATE (mutant == 1)
#define TOKEN_IS_A_COUNT (mutant == 2)
#define GRANT_PASSES_WRITES (mutant == 3)
#define NO_HISTORY (mutant == 4)
#define NO_CANCELLATION (mutant == 5)
#define RELEASE_OF_ANYBODY (mutant == 6)
#define NO_LINE (mutant == 7)
#define GUARD_FORGETS_EXPIRY (mutant == 8)
#define RENEW_REVIVES (mutant == 9)

/* a situation that has to be possible; its step is played to its end */
inline saw(n) { if :: witness == n -> seen = true :: else fi }

inline touch() { for (t : 0 .. WORKERS - 1) { stale[t] = true } t = 0 }

inline end_lease(reason) {
  end_reason[holder] = reason;
  has_lease[holder] = false;
  holder = NONE;
  live = false;
  touch()
}

/* how many are before this one, or all; 0: it is the first, or there is no line */
inline count_ahead(id) {
  ahead = waiting;
  for (k : 0 .. IDS - 1) { if :: k < waiting && line[k] == id -> ahead = k :: else fi }
  k = 0
}

inline leave_line(id) {
  count_ahead(id);
  if
  :: ahead < waiting ->
    for (k : 0 .. IDS - 2) { if :: k >= ahead && k + 1 < waiting -> line[k] = line[k + 1] :: else fi }
    k = 0;
    waiting--;
    line[waiting] = 0
  :: else
  fi;
  ahead = 0
}

inline count_writes() {
  writes = 0;
  for (k : 0 .. IDS - 1) { if :: writing[k] -> writes++ :: else fi }
  k = 0
}

/* what an acquire meets; `granted` means: it may be */
inline look(id, over) {
  count_ahead(id);
  count_writes();
  if
  :: holder == id && live -> answer = renewed /* the same grant again */
  :: holder == id && !live -> answer = ended
  :: holder != id && end_reason[id] == cancelled && !NO_CANCELLATION -> answer = ended
  :: holder != id && end_reason[id] != nothing && end_reason[id] != cancelled && !NO_HISTORY -> answer = ended
  :: else ->
    if
    :: holder != NONE && live && !(over && SAME_HOLDER(holder, id)) -> answer = held
    :: !(holder != NONE && live) && ahead > 0 && !NO_LINE -> answer = queued
    :: else -> if :: writes > 0 && !GRANT_PASSES_WRITES -> answer = busy :: else -> answer = granted fi
    fi
  fi;
  ahead = 0; writes = 0
}

inline grant(id, over) {
  count_ahead(id);
  count_writes();
  /* P1: nobody else holds it; but for one's own lease that is taken over */
  for (k : 0 .. IDS - 1) {
    if :: has_lease[k] -> assert(holder == k && over && SAME_HOLDER(k, id)) :: else fi
  }
  k = 0;
  /* P12: nobody who came before still waits */
  assert(ahead == 0 || over && holder != NONE && live);
  if :: ahead == 0 && waiting > 1 -> saw(12) :: else fi;
  /* P4: no guarded write is open */
  assert(writes == 0);
  /* P5: one lock_id, one grant; and none where it was cancelled */
  assert(!was_granted[id] && end_reason[id] == nothing);
  ahead = 0; writes = 0;
  if
  :: holder != NONE && live -> end_lease(taken_over); saw(10)
  :: holder != NONE && !live -> end_lease(expired); saw(1)
  :: else
  fi;
  leave_line(id);
  clock++;
  if
  :: TOKEN_IS_A_COUNT -> token = token + 1
  :: else -> if :: token + 1 > clock -> token = token + 1 :: else -> token = clock fi
  fi;
  /* P4: higher than every one before */
  assert(token > newest);
  if :: deletions > 0 && newest > 0 -> saw(4) :: else fi;
  newest = token;
  holder = id;
  live = true;
  told[id] = token;
  has_lease[id] = true;
  was_granted[id] = true;
  answer = granted;
  touch()
}

/* all in one piece: what acquire_in_turn() does with the row locked */
inline acquire(id, over, wants_place) {
  look(id, over);
  if
  :: answer == granted -> grant(id, over)
  :: answer == renewed -> answer = granted
  :: wants_place && (answer == held || answer == queued) ->
    count_ahead(id);
    if :: ahead == waiting && waiting < IDS -> line[waiting] = id; waiting++; touch() :: else fi;
    ahead = 0
  :: else
  fi;
  if :: answer == ended && end_reason[id] == cancelled -> saw(5) :: else fi;
  if :: answer == ended && end_reason[id] == released -> saw(9) :: else fi;
  if :: answer == queued -> saw(7) :: else fi
}

inline release(id) {
  if
  :: holder == id || RELEASE_OF_ANYBODY && holder != NONE ->
    if :: live -> answer = released :: else -> answer = expired fi;
    /* P6: only the acquisition that it names */
    assert(holder == id);
    end_lease(answer)
  :: else ->
    if
    :: end_reason[id] == nothing -> leave_line(id); end_reason[id] = cancelled; touch()
    :: else -> if :: holder != NONE && live && end_reason[id] != cancelled -> saw(6) :: else fi
    fi;
    answer = end_reason[id]
  fi
}

inline renew(id) {
  if
  :: holder == id && (live || RENEW_REVIVES) ->
    /* P3, P6: it never revives */
    assert(has_lease[id]);
    answer = renewed;
    touch()
  :: holder == id && !live -> answer = expired
  :: else -> if :: end_reason[id] != nothing -> answer = end_reason[id] :: else -> answer = not_held fi
  fi
}

inline begin_write(id) {
  if
  :: told[id] > 0 && holder == id && token == told[id] && (live || GUARD_FORGETS_EXPIRY) ->
    assert(has_lease[id]);
    writing[id] = true;
    answer = written
  :: else -> answer = refused; if :: told[id] > 0 && newest > told[id] -> saw(8) :: else fi
  fi
}

inline commit_write(id) {
  /* P4: nobody was granted the lock since the check */
  assert(newest == told[id]);
  if :: holder != id -> saw(3) :: else fi;
  writing[id] = false
}

inline end_all_work() {
  for (k : 0 .. IDS - 1) { writing[k] = false }
  for (k : 0 .. WORKERS - 1) { worker[k] = NONE; stale[k] = false; takes_over[k] = false }
  k = 0
}

inline choose_fault() {
#ifndef SIMULATED
  c_code {
    now.mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0;
    now.witness = getenv("WITNESS") ? atoi(getenv("WITNESS")) : 0;
  };
#endif
  for (k : 0 .. IDS - 1) { end_reason[k] = nothing }
  for (k : 0 .. WORKERS - 1) { worker[k] = NONE }
  k = 0
}

#ifndef RUN
init {
  byte k, t, ahead, writes, id, w;
  bool over;
  atomic { choose_fault() }
  do
  :: atomic {
      select (id : 0 .. IDS - 1);
      if
      :: over = false;
         if
         :: acquire(id, over, true); printf("EV acquire %d place %d\n", id, answer)
         :: acquire(id, over, false); printf("EV acquire %d plain %d\n", id, answer)
         fi
      :: over = true; acquire(id, over, false); printf("EV acquire %d over %d\n", id, answer)
      :: true -> release(id); printf("EV release %d none %d\n", id, answer)
      :: true -> renew(id); printf("EV renew %d none %d\n", id, answer)
      :: !writing[id] -> begin_write(id); printf("EV begin %d none %d\n", id, answer)
      :: writing[id] -> commit_write(id); printf("EV commit %d none %d\n", id, written)
      :: writing[id] -> writing[id] = false; printf("EV rollback %d none %d\n", id, nothing)
      :: holder == id && live -> live = false; has_lease[id] = false; printf("EV expire %d none %d\n", id, nothing)
      :: holder == id && live -> end_lease(force_released); printf("EV force %d none %d\n", id, nothing)
      :: count_ahead(id); if :: ahead < waiting -> ahead = 0; leave_line(id); printf("EV lapse %d none %d\n", id, nothing) :: else -> ahead = 0 fi
      /* the usual case: a read, and later a write if the row is as it was read */
      :: worker[0] == NONE -> w = 0; goto reads
      :: WORKERS > 1 && worker[0] != NONE && worker[WORKERS - 1] == NONE -> w = WORKERS - 1; goto reads
      :: worker[0] != NONE -> w = 0; goto writes_row
      :: WORKERS > 1 && worker[WORKERS - 1] != NONE -> w = WORKERS - 1; goto writes_row
      :: deletions < 1 && waiting == 0 ->
         count_writes();
         if
         :: writes == 0 -> /* a deletion waits for guarded writes, which share the row */
            deletions++;
            if :: holder != NONE -> if :: live -> end_lease(force_released) :: else -> end_lease(expired) fi :: else touch() fi;
            /* the row's token goes with it; a new row begins with the clock */
            if :: TOKEN_IS_A_COUNT -> token = 0 :: else -> clock++; token = clock fi;
            printf("EV delete %d none %d\n", 0, nothing)
         :: else
         fi;
         writes = 0
      :: end_all_work(); printf("EV crash %d none %d\n", 0, nothing)
      fi;
      goto done;
reads:
      look(id, false);
      /* whoever finds a line goes through acquire_in_turn(), which is one piece */
      if :: answer == granted && waiting == 0 -> worker[w] = id; stale[w] = false :: else fi;
      goto done;
writes_row:
      id = worker[w];
      worker[w] = NONE;
      if
      :: !stale[w] || READ_THEN_UPDATE -> grant(id, false); printf("EV acquire %d plain %d\n", id, answer)
      :: else -> saw(11); acquire(id, false, false); printf("EV acquire %d plain %d\n", id, answer)
      fi;
      stale[w] = false;
done:
      assert(!seen);
      id = 0; w = 0; over = false; answer = nothing
    }
  od
}
#endif
