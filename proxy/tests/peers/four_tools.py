"""The four tools of the conversation "fixture", for every server in Python. Nothing here belongs to an SDK."""

import asyncio

STEP_SECONDS = 0.02


def register(tool, Context, ToolError) -> None:
    """Gives the four functions to `tool`, the SDK's decorator; `Context` and `ToolError` are the SDK's, too."""

    def add(a: int, b: int) -> str:
        """The sum of two numbers"""
        return str(a + b)

    def echo(text: str) -> str:
        """The text it was given"""
        return text

    def fail() -> str:
        """Always a tool error"""
        raise ToolError("this tool always fails")

    async def slow(steps: int, ctx: Context) -> str:
        """Takes a while and reports progress"""
        for step in range(1, steps + 1):
            await asyncio.sleep(STEP_SECONDS)
            await ctx.report_progress(step, steps)
        return f"done after {steps} steps"

    for function in [add, echo, fail, slow]:
        tool(function)
