"""Signs a request as botocore does and prints the signature.

The request is the JSON of the only argument: form (`query` or `headers`), method, url, headers, body, region,
accessKeyId, secretAccessKey, sessionToken (or null), date (`20240102T030405Z`).
"""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.loads(sys.argv[1])
date = datetime.datetime.strptime(given["date"], "%Y%m%dT%H%M%SZ")
botocore.auth.get_current_datetime = lambda *_, **__: date

request = AWSRequest(given["method"], given["url"], headers=given["headers"], data=given["body"])
credentials = Credentials(given["accessKeyId"], given["secretAccessKey"], given["sessionToken"])
if given["form"] == "query":
    botocore.auth.SigV4QueryAuth(credentials, "sts", given["region"], expires=0).add_auth(request)
    print(request.url.split("X-Amz-Signature=")[1].split("&")[0])
else:
    botocore.auth.SigV4Auth(credentials, "sts", given["region"]).add_auth(request)
    print(request.headers["Authorization"].split("Signature=")[1])
