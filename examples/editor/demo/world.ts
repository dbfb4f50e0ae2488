/** A demo user. */
export interface Person {
  key: string;
  name: string;
  email: string;
  picture: string;
  /** Which tenants, and as what. */
  roles: Record<string, "member" | "admin">;
}

/** All demo users have this password. They live in a demo's database only. */
export const PASSWORD = "holdfast-demo";

const NORTHLIGHT = "00000000-0000-4000-8000-00000000e001";
const SECOND_STREET = "00000000-0000-4000-8000-00000000e002";

/** Tenants and their names. */
export const TENANTS = { [NORTHLIGHT]: "Northlight Films", [SECOND_STREET]: "Second Street" };

const person = (key: string, name: string, roles: Person["roles"]): Person => ({
  key,
  name,
  email: `${key}@editor.example.com`,
  picture: `/people/${key}.svg`,
  roles,
});

/** Three people: a member, an administrator, and one who works for both tenants. */
export const PEOPLE: Person[] = [
  person("anna", "Anna", { [NORTHLIGHT]: "member" }),
  person("ben", "Ben", { [NORTHLIGHT]: "admin" }),
  person("cleo", "Cleo", { [NORTHLIGHT]: "member", [SECOND_STREET]: "member" }),
];

/** A demo video, and what is in its two databases. */
export interface Video {
  id: string;
  tenant_id: string;
  title: string;
  captions: [startsAt: number, text: string][];
  layout: { heading: string; position: string; theme: string; logo: boolean };
}

const video = (
  n: number,
  tenant_id: string,
  title: string,
  theme: string,
  position: string,
  ...captions: Video["captions"]
): Video => ({
  id: `00000000-0000-4000-8000-00000000e1${String(n).padStart(2, "0")}`,
  tenant_id,
  title,
  captions,
  layout: { heading: title, position, theme, logo: true },
});

/** The demo videos. */
export const VIDEOS: Video[] = [
  video(
    1,
    NORTHLIGHT,
    "Harbour at dawn",
    "sunset",
    "top",
    [0, "The first boats leave before anyone is up."],
    [4.5, "By six, the whole quay smells of diesel and bread."],
    [9, "“You learn to read the water,” says Marit."],
    [14, "She has done this for thirty-one years."],
    [19.5, "The fish are sold before the sun is over the roofs."],
  ),
  video(
    2,
    NORTHLIGHT,
    "Interview with a baker",
    "daylight",
    "top",
    [0, "I get up when others go to bed."],
    [5, "Flour, water, salt, and patience."],
    [11, "Most people forget the patience."],
    [16, "A loaf tells you when it is done. You have to listen."],
  ),
  video(
    3,
    NORTHLIGHT,
    "Night train north",
    "midnight",
    "centre",
    [0, "The last train leaves at eleven."],
    [6, "After Trondheim there is only forest."],
    [12, "At three in the morning it is light again."],
  ),
  video(
    4,
    NORTHLIGHT,
    "The long way up",
    "daylight",
    "bottom",
    [0, "Nobody told us about the last hut."],
    [5, "It is always further than it looks."],
    [10, "But from here you can see both seas."],
  ),
  video(
    5,
    SECOND_STREET,
    "Opening credits",
    "midnight",
    "centre",
    [0, "A film by Second Street"],
    [3, "With the people of the neighbourhood"],
  ),
  video(
    6,
    SECOND_STREET,
    "Corner shop, day one",
    "sunset",
    "top",
    [0, "The sign went up at noon."],
    [4, "By two we had sold our first lemon."],
    [8, "It was a very good lemon."],
  ),
];
