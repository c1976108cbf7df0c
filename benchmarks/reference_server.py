"""The endpoint that this product's first version had, written again from its description.

    MODEL=model.keras gunicorn --workers 2 --bind 127.0.0.1:8081 reference_server:app

Base64 of a picture in JSON goes in, base64 of the mask as BMP and the share of its defect pixels come out;
Keras' `predict` computes one picture at a time.
"""

import base64
import os

import cv2
import flask
import keras
import numpy as np

app = flask.Flask(__name__)
model = keras.models.load_model(os.environ["MODEL"], compile=False)
_, side, _, channels = model.input_shape
READ = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB


@app.get("/health")
def health():
    return "ok"


@app.post("/v2/predict")
def predict():
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(flask.request.json["image"]), np.uint8), READ)
    batch = cv2.resize(picture, (side, side)).reshape(1, side, side, channels).astype(np.float32)
    mask = model.predict(batch, verbose=0)[0].argmax(axis=-1).astype(np.uint8) * 255
    _, file = cv2.imencode(".bmp", mask)
    return {
        "defected_area": str((mask > 0).mean()),
        "segmented_image": base64.b64encode(file.tobytes()).decode(),
    }
