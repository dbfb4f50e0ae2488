/* Follows a run that was recorded on the real thing: each caller's calls in their order, each after the calls that had returned
 * before it was sent. It is accepted if the model can give the same answers: then the last assertion is reached.
 * What was recorded is in run.h, which model_checked_test.ts writes. WRONG (environment) takes one answer for another one.
 */
#define SIMULATED /* no mutants here */
#define RUN
#define WORKERS 1
#include "run_size.h"
#include "lease.pml"

c_decl {
\#include "run.h"
  static int WRONG = -1;
};

byte done[CALLERS];
short finished;

proctype caller(byte me) {
  byte k, t, ahead, writes, id, op, expects;
  short n;
  do
  :: atomic { !dead && c_expr { MAY_GO } ->
      c_code {
        Pcaller->n = FIRST[Pcaller->me] + now.done[Pcaller->me];
        Pcaller->id = ID[Pcaller->n];
        Pcaller->op = OP[Pcaller->n];
        Pcaller->expects = Pcaller->n == WRONG ? WRONG_ANSWER[Pcaller->n] : ANSWER[Pcaller->n];
      };
      if
      :: op == 0 -> acquire(id, false, false)
      :: op == 1 -> acquire(id, true, false)
      :: op == 2 -> release(id)
      :: op == 3 -> renew(id)
      :: op == 4 -> begin_write(id); writing[id] = false
      :: op == 5 -> if :: holder != NONE && live -> live = false; has_lease[holder] = false :: else fi; answer = nothing
      :: op == 6 -> if :: holder != NONE -> if :: live -> end_lease(force_released) :: else -> end_lease(expired) fi :: else fi; answer = nothing
      fi;
      dead = (answer != expects);
      done[me]++;
      finished++;
      id = 0; op = 0; expects = 0; n = 0; answer = nothing;
      assert(dead || finished < CALLS)
    }
  od
}

init {
  byte k;
  atomic {
    choose_fault();
    c_code { WRONG = getenv("WRONG") ? atoi(getenv("WRONG")) : -1; };
    for (k : 0 .. CALLERS - 1) { run caller(k) }
  }
}
