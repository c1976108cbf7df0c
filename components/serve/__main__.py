"""`python -m defectline.components.serve --model_dir DIR --model_name NAME --http_port PORT`"""

from defectline.components.common.installing import explained

with explained("serve", "serve"):
    from defectline.components.serve.server import main

if __name__ == "__main__":
    main()
