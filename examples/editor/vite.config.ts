import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // known beforehand, so that no dependency is found, and the page reloaded, in the middle of a visit
  optimizeDeps: {
    include: [
      "@supabase/supabase-js",
      "react",
      "react-aria-components",
      "react-dom/client",
      "react/jsx-dev-runtime",
    ],
  },
});
