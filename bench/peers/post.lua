-- wrk: the same note again and again.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"text": "Buy cherries, the sour ones, and bring the basket back before the rain comes."}'
dofile((debug.getinfo(1, "S").source:sub(2):match("(.*/)")) .. "report.lua")
