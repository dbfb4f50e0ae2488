/// <reference lib="dom" />

/** The mark of Holdfast. */
export function Logo() {
  return <img className="logo" src="/holdfast.svg" alt="" width={28} height={28} />;
}

/** The face of a person; of a worker, a gear. */
export function Face(
  { name, picture, size = 32 }: { name: string; picture: string | null; size?: number },
) {
  if (!picture) return <Gear size={size} />;
  return (
    <img
      className="face"
      src={picture}
      alt=""
      title={name}
      width={size}
      height={size}
    />
  );
}

function Gear({ size }: { size: number }) {
  return (
    <span className="face gear" style={{ width: size, height: size }}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path
          fill="none"
          stroke="currentColor"
          strokeWidth="1.8"
          strokeLinejoin="round"
          d="M10.3 3.5h3.4l.5 2.3 1.6.9 2.2-.7 1.7 2.9-1.7 1.6v1.9l1.7 1.6-1.7 2.9-2.2-.7-1.6.9-.5 2.3h-3.4l-.5-2.3-1.6-.9-2.2.7-1.7-2.9 1.7-1.6v-1.9L4.3 8.9 6 6l2.2.7 1.6-.9z"
        />
        <circle cx="12" cy="11.5" r="2.7" fill="none" stroke="currentColor" strokeWidth="1.8" />
      </svg>
    </span>
  );
}

/** Whose a lock is, for its colour. */
export type Tone = "free" | "mine" | "other" | "worker" | "lost";

/**
 * A face in a ring that shrinks as the lease does. The browser draws it on from what was last heard, without a timer.
 */
export function LeaseRing(
  { tone, name, picture, secondsLeft, ttl, heardAt, size = 44, isLocked = false }: {
    tone: Tone;
    /** Somebody else has it: with a padlock. */
    isLocked?: boolean;
    name: string;
    picture: string | null;
    secondsLeft: number;
    ttl: number;
    /** Anything that changes with each renewal. */
    heardAt: number;
    size?: number;
  },
) {
  return (
    <span className={`ring ${tone}`} style={{ width: size, height: size }}>
      <svg viewBox="0 0 44 44" aria-hidden="true">
        <circle className="track" cx="22" cy="22" r="20" />
        <circle
          key={heardAt}
          className="rest"
          cx="22"
          cy="22"
          r="20"
          pathLength="1"
          style={{
            animationDuration: `${ttl}s`,
            animationDelay: `${secondsLeft - ttl}s`,
            animationTimingFunction: `steps(${ttl})`, // once a second: smoothly, it would draw all the time
          }}
        />
      </svg>
      <Face name={name} picture={picture} size={size - 10} />
      {isLocked && (
        <span className="ring-lock">
          <Padlock isOpen={false} />
        </span>
      )}
    </span>
  );
}

/** An open or closed padlock. */
export function Padlock({ isOpen }: { isOpen: boolean }) {
  return (
    <svg className="padlock" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
      <rect x="4" y="9" width="12" height="8" rx="2" fill="currentColor" />
      <path
        d={isOpen ? "M7 9V6a3 3 0 0 1 5.8-1" : "M7 9V6a3 3 0 0 1 6 0v3"}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
      />
    </svg>
  );
}

const THEMES: Record<string, [sky: string, low: string, sun: string, far: string, near: string]> = {
  sunset: ["#3a2c5f", "#f29e6d", "#ffd9a0", "#7a4a6b", "#2b2240"],
  daylight: ["#7fb8e0", "#e4f1f7", "#fff4cf", "#7fa58a", "#3f6b57"],
  midnight: ["#0b1430", "#2c3f73", "#f1efe2", "#1c2a52", "#0a1226"],
};

/** A drawn still of a video, as this demo has no films. */
export function Scene({ seed, theme }: { seed: string; theme: string }) {
  const [sky, low, sun, far, near] = THEMES[theme] ?? THEMES.daylight!;
  const n = Number.parseInt(seed.slice(-2), 16) || 1;
  const id = `sky-${theme}-${n}`;
  const x = 70 + (n * 53) % 190;
  const hill = (height: number, step: number) => {
    const top = (i: number) =>
      height - 16 * Math.sin(n * 1.7 + i * step) - 8 * Math.sin(i * 2.3 + n);
    const points = Array.from({ length: 9 }, (_, i) => `${i * 40},${top(i).toFixed(0)}`);
    return `M0,180 L${points.join(" L")} L320,180 Z`;
  };
  return (
    <svg
      className="scene"
      viewBox="0 0 320 180"
      preserveAspectRatio="xMidYMid slice"
      aria-hidden="true"
    >
      <defs>
        <linearGradient id={id} x1="0" y1="0" x2="0" y2="1">
          <stop offset="0" stopColor={sky} />
          <stop offset="0.75" stopColor={low} />
        </linearGradient>
      </defs>
      <rect width="320" height="180" fill={`url(#${id})`} />
      <circle cx={x} cy={92 - (n * 7) % 30} r="17" fill={sun} />
      <path d={hill(122, 0.9)} fill={far} />
      <path d={hill(148, 1.3)} fill={near} />
    </svg>
  );
}
