"""Texts that would do harm if anything but text were made of them, and a report that tries what a report may not."""

HOSTILE = (
    "<script>window.harm = 1</script><img src=x onerror='window.harm = 2'>\"'><svg onload=window.harm=3> [a](javascript:x) "
    "{{ 7 * 7 }} \N{RIGHT-TO-LEFT OVERRIDE}reversed \x1b[31m"
)
RUN = "manual__2026-11-28T10:00:00+00:00"
REPORT = """<!DOCTYPE html><html lang="en"><head><title>report</title></head><body><p id="said">nothing ran</p><script>
const said = [];
try { said.push("cookie " + document.cookie.length); } catch (error) { said.push("cookie refused"); }
try { said.push("store " + localStorage.length); } catch (error) { said.push("store refused"); }
try { said.push("parent " + parent.document.title); } catch (error) { said.push("parent refused"); }
fetch("/api/v2/dags", {credentials: "include"}).then(
  (answer) => said.push("network " + answer.status), () => said.push("network refused"),
).finally(() => { document.getElementById("said").textContent = said.join(", "); });
</script></body></html>"""
