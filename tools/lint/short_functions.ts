/** A function fits a screen, or the comment that ignores this rule says why not. */
const MOST_LINES = 70;

/**
 * The rule `holdfast/short-functions` for `deno lint`: a function has 70 lines at most, from its first word to its last
 * bracket. A longer one says why: `// deno-lint-ignore holdfast/short-functions -- the reason`.
 */
const plugin: Deno.lint.Plugin = {
  name: "holdfast",
  rules: {
    "short-functions": {
      create(context) {
        const measure = (node: Deno.lint.Node) => {
          const lines = context.sourceCode.getText(node).split("\n").length;
          if (lines <= MOST_LINES) return;
          context.report({
            node,
            message: `This function has ${lines} lines, and ${MOST_LINES} is the most.`,
            hint:
              "Take a part out, or say why not: // deno-lint-ignore holdfast/short-functions -- the reason",
          });
        };
        return {
          FunctionDeclaration: measure,
          FunctionExpression: measure,
          ArrowFunctionExpression: measure,
        };
      },
    },
  },
};

export default plugin;
